//! Echoes on whatever the user typed, until SIGTERM or Ctrl-C.

use endpoints::service::{ServerService, ServiceGroup};
use tokio::io::{copy, split};

// ANCHOR: main
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), endpoints::Error> {
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=7:interface=127.0.0.1".to_owned());
    let service =
        ServerService::builder(endpoints::server(description)?).handle(|connection, _| async move {
            let (mut reader, mut writer) = split(connection);
            let _ = copy(&mut reader, &mut writer).await;
        });
    ServiceGroup::new("echo").with(service).run_until_signal().await
}
// ANCHOR_END: main
