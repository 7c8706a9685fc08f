//! Every kind of listener is reached as it says: `connect(reachable(listen(description)))`.

use crate::support::{World, both_forms, exchange, pki, reachable};

both_forms!(every_kind_is_reached_as_it_says);

async fn every_kind_is_reached_as_it_says(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let path =
        |name: &str| endpoints::quote_str(folder.path().join(name).to_str().expect("UTF-8")).into_owned();
    let around = |scheme: &str, inner: &str| format!("{scheme}:endpoint={}", endpoints::quote_str(inner));
    let mut descriptions = vec![
        "tcp:0".to_owned(),
        "tcp:0:interface=127.0.0.1".into(),
        "tcp6:0".into(),
        r"tcp6:0:interface=\:\:1".into(),
        format!("unix:{}", path("a")),
        format!("unix:{}:mode=600:lockfile=0", path("b:c=d\\e")),
        format!("unix:abstract=endpoints-test-{}-{:p}", std::process::id(), world),
        "haproxy:tcp:0:interface=127.0.0.1".into(),
        format!("haproxy:unix:{}", path("f")),
        r"haproxy:endpoint=tcp\:0\:interface=127.0.0.1:trust=127.0.0.1".into(),
        around("pass", "tcp:0:interface=127.0.0.1"),
        around("pass", &around("haproxy", &around("pass", "tcp:0:interface=127.0.0.1"))),
    ];
    let mut trust = String::new();
    if let Some(folder) = pki() {
        let file = |name: &str| {
            endpoints::quote_str(folder.join("pki").join(name).to_str().expect("UTF-8")).into_owned()
        };
        trust = format!(":trustRoots={}", file("trust"));
        descriptions.extend([
            format!("tls:{}:0", file("sni")),
            format!("tls:certificate={}:port=0:interface=127.0.0.1", file("server.pem")),
            format!("tls:certificate={}:endpoint=unix\\:{}", file("server.pem"), path("g")),
            format!("ssl:0:{}", file("server.pem")),
            format!("haproxy:tls:{}:0", file("server.pem")),
            format!("haproxy:ssl:0:{}", file("server.pem")),
            format!("tls:{}:0:clientCA={}", file("server.pem"), file("trust")),
        ]);
        // What a server cannot know, too: who the client is.
        trust.push_str(&format!(":certificate={}", file("client.pem")));
    }
    for description in descriptions {
        let listener = world.listen(&description).await;
        assert!(!listener.reachable().is_empty(), "{description}");
        let mut client = reachable(&listener);
        if client.starts_with("tls:") {
            // What a server cannot know: whom the client trusts.
            client.push_str(&trust);
        }
        let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
        let (mut near, mut far) = tokio::join!(world.connect(&client), accepting);
        exchange(&mut near, &mut far).await;
    }
}
