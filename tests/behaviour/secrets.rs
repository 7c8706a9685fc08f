//! The values of secret arguments show up nowhere.

use endpoints::{Error, ErrorKind};

use crate::support::{World, around, assert_kind, both_forms, closed_port};

both_forms!(errors_hide_secrets, endpoints_hide_secrets, failed_connects_hide_secrets);

const SECRET: &str = "hunter2";

/// `socks5` with a secret in it, and more.
fn with_secret(more: &str) -> String {
    format!(r"socks5:h.example:80:tcp\:127.0.0.1\:1:username=me:password={SECRET}{more}")
}

fn assert_hidden(error: &Error, about: &str) {
    let description = String::from_utf8_lossy(error.description().unwrap_or_default()).into_owned();
    for shown in [error.to_string(), format!("{error:?}"), format!("{error:#?}"), description] {
        assert!(!shown.contains(SECRET), "{about}: {shown}");
    }
    assert!(!error.expected().iter().any(|text| text.contains(SECRET)), "{about}");
    assert!(!error.suggestion().is_some_and(|text| text.contains(SECRET)), "{about}");
    assert!(!error.argument().is_some_and(|text| text.contains(SECRET)), "{about}");
    let io = std::io::Error::from(error.clone());
    assert!(!format!("{io} {io:?}").contains(SECRET), "{about}");
}

async fn errors_hide_secrets(world: &World) {
    for (description, kind) in [
        (with_secret(":nonsense=1"), ErrorKind::UnknownArgument),
        (with_secret(":timeout=soon"), ErrorKind::BadNumber),
        (with_secret(&format!(":password={SECRET}")), ErrorKind::DuplicateArgument),
        (with_secret(r"\"), ErrorKind::TrailingBackslash),
        (with_secret(":1:2:3"), ErrorKind::TooManyArguments),
        // The name misspelt: the value is still one.
        (with_secret("").replace("password", "pasword"), ErrorKind::UnknownArgument),
        (with_secret("").replace("password", "Password"), ErrorKind::UnknownArgument),
        (with_secret("").replace("username=me:", ""), ErrorKind::InvalidArgument),
        (with_secret("").replace(SECRET, &SECRET.repeat(60)), ErrorKind::InvalidArgument),
        (with_secret("").replace("h.example", "h example"), ErrorKind::InvalidArgument),
        (with_secret(":é=1"), ErrorKind::NonAsciiKey),
        (with_secret(r":é=1\"), ErrorKind::TrailingBackslash),
        // Without its name, or without its scheme.
        (with_secret("").replace("password=", ""), ErrorKind::TooManyArguments),
        (with_secret("").replace("username=me:password=", "me:"), ErrorKind::TooManyArguments),
        (with_secret("").replace("socks5", "sock5"), ErrorKind::UnknownScheme),
        // Under names that it does not have, and on the wrong level.
        (with_secret("").replace("password", "pass"), ErrorKind::UnknownArgument),
        (with_secret("").replace("password", "pw"), ErrorKind::UnknownArgument),
        (format!(r"socks5:h:80:proxy=tcp\:h\:1\:password={SECRET}"), ErrorKind::UnknownArgument),
        (format!("tcp:h:80:password={SECRET}"), ErrorKind::UnknownArgument),
        // With a colon that was not escaped, in front of the rest of it.
        (format!(r"socks5:h:80:username=u:password=p@ss:{SECRET}"), ErrorKind::UnknownScheme),
        (format!(r"socks5:h:80:tcp\:h\:1:username=u:password=p:{SECRET}"), ErrorKind::TooManyArguments),
        (format!(r"socks5:h:80:tcp\:h\:1:username=u:password=p:{SECRET}=x"), ErrorKind::UnknownArgument),
        // On a level whose colons were escaped, and its equals sign not.
        (format!(r"socks5:h:80:socks5\:h\:80\:password={SECRET}"), ErrorKind::UnknownArgument),
        (format!(r"pass:socks5\:h\:80\:password={SECRET}"), ErrorKind::UnknownArgument),
        (format!(r"nothing:socks5\:h\:80\:opener={SECRET}"), ErrorKind::UnknownScheme),
        (format!("tcp:h:80:proxy-password={SECRET}"), ErrorKind::UnknownArgument),
        (format!(r"tcp:h:80:proxy=x\:y=z:socks5\:opener={SECRET}"), ErrorKind::UnknownArgument),
        (format!("password={SECRET}:host=h"), ErrorKind::NoScheme),
        (format!(r"password={SECRET}:host=h\"), ErrorKind::TrailingBackslash),
    ] {
        for text in
            [description.clone(), around("pass", &description), around("pass", &around("pass", &description))]
        {
            let error = world.registry.client(text.as_str()).expect_err(&text);
            assert_hidden(&error, &text);
            if text == description {
                assert_kind(&error, kind);
                let masked = error.description().expect("a description");
                assert_eq!(masked.len(), text.len(), "each byte is one star, so that spans stay right");
            }
        }
    }
}

async fn endpoints_hide_secrets(world: &World) {
    let text = with_secret("");
    for text in [text.clone(), around("pass", &text), around("pass", &around("pass", &text))] {
        let client = world.registry.client(text.as_str()).expect("a client");
        for shown in [client.to_string(), format!("{client:?}"), format!("{:?}", client.explain())] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
        assert!(client.to_string().contains(&"*".repeat(SECRET.len())), "{client}");
        let whole = String::from_utf8_lossy(client.description().text());
        assert!(whole.contains(SECRET), "the description itself stays what it was");
    }
    let explanation = world.registry.client(text).expect("a client").explain();
    let password =
        explanation.arguments.iter().find(|argument| argument.name == "password").expect("it is listed");
    assert_eq!((&password.value, password.given), (&None, true));
}

async fn failed_connects_hide_secrets(world: &World) {
    let text = with_secret("").replace(r"\:1:", &format!(r"\:{}:", closed_port()));
    let error = world.connect_error(&text).await;
    assert_kind(&error, ErrorKind::ConnectionRefused);
    assert_hidden(&error, &text);
}
