use super::*;
use crate::manifest::Manifest;

const FRONT: &str = r#"{"parameters":[
    {"name":"endpoint","type":"rest","required":true},
    {"name":"timeout","type":"duration","default":"5"}]}"#;

const FILES: &str = r#"{"parameters":[
    {"name":"certKey","type":"path","default_from":"privateKey"},
    {"name":"privateKey","type":"path","default":"server.pem"},
    {"name":"index","type":"integer"},
    {"name":"name","type":"text"},
    {"name":"zone","type":"text","requires":["name"]}],
    "one_of":[{"names":["index","name"],"required":true}]}"#;

/// What `description` gives to a role, as `name=value`, with a `*` where it is given itself.
fn checked(role: &str, description: &str) -> Result<Vec<String>, Error> {
    let build = r#"{"name":"p","version":"1.0.0","api":"1.0.0","requires":"1.0.0","entry":"e"}"#;
    let scheme = format!(r#"{{"scheme":"s","kind":"wrapper","client":{role}}}"#);
    let manifest =
        Manifest::parse(&format!(r#"{{"build":{build},"plugin":{{"schemes":[{scheme}]}}}}"#)).unwrap();
    let description = Description::parse(description).unwrap();
    let arguments = check(&description, manifest.plugin.schemes[0].client.as_ref().unwrap())?;
    let text = |argument: &Argument<'_, '_>| {
        let value = String::from_utf8_lossy(&argument.value);
        format!("{}{}={value}", argument.parameter.name, if argument.given { "*" } else { "" })
    };
    Ok(arguments.iter().map(text).collect())
}

#[test]
fn the_rest_is_taken_as_it_stands_or_by_keyword() {
    for (description, expected) in [
        ("s:tcp:80", ["endpoint*=tcp:80", "timeout=5"]),
        (r"s:unix:/a\:b", [r"endpoint*=unix:/a\:b", "timeout=5"]),
        ("s:port=80:tcp", ["endpoint*=port=80:tcp", "timeout=5"]),
        ("s:tcp:80:timeout=9", ["endpoint*=tcp:80:timeout=9", "timeout=5"]),
        (r"s:endpoint=tcp\:80", ["endpoint*=tcp:80", "timeout=5"]),
        (r"s:timeout=9:endpoint=unix\:/a\\\:b", [r"endpoint*=unix:/a\:b", "timeout*=9"]),
        (r"s:tls:endpoint=tcp\:80", [r"endpoint*=tls:endpoint=tcp\:80", "timeout=5"]),
    ] {
        assert_eq!(checked(FRONT, description).unwrap(), expected, "{description}");
    }
    for (description, kind) in [
        ("s", ErrorKind::MissingArgument),
        ("s:", ErrorKind::MissingArgument),
        ("s:timeout=9", ErrorKind::MissingArgument),
        (r"s:timout=9:endpoint=tcp\:80", ErrorKind::UnknownArgument),
    ] {
        assert_eq!(checked(FRONT, description).unwrap_err().kind(), kind, "{description}");
    }
}

#[test]
fn defaults_come_from_other_parameters() {
    assert_eq!(
        checked(FILES, "s:index=0").unwrap(),
        ["certKey=server.pem", "privateKey=server.pem", "index*=0"]
    );
    assert_eq!(
        checked(FILES, "s:privateKey=k.pem:index=0").unwrap(),
        ["certKey=k.pem", "privateKey*=k.pem", "index*=0"]
    );
    assert_eq!(
        checked(FILES, "s:certKey=c.pem:index=0").unwrap(),
        ["certKey*=c.pem", "privateKey=server.pem", "index*=0"]
    );
}

#[test]
fn what_needs_another_is_refused_alone() {
    let error = checked(FILES, "s:index=0:zone=z").unwrap_err();
    assert_eq!((error.kind(), error.argument()), (ErrorKind::MissingArgument, Some("name")));
    assert!(error.message().contains("zone is given without name"), "{error}");
    assert!(checked(FILES, "s:name=n:zone=z").is_ok());
}

#[test]
fn what_excludes_each_other_is_refused() {
    let error = checked(FILES, "s:index=0:name=web").unwrap_err();
    assert_eq!((error.kind(), error.argument()), (ErrorKind::ConflictingArguments, Some("name")));
    assert_eq!(error.span(), Some(10..18));
    assert!(error.message().contains("only one of index, name can be"), "{error}");
    let error = checked(FILES, "s").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingArgument);
    assert!(error.message().contains("one of index, name must be given"), "{error}");
}
