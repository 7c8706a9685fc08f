use super::*;

fn with(plugin: &str) -> Result<Manifest, String> {
    let build = r#"{"name":"p","version":"1.2.3","api":"1.0.0","requires":"1.0.0","entry":"e"}"#;
    Manifest::parse(&format!(r#"{{"build":{build},"plugin":{plugin}}}"#))
}

fn parameters(parameters: &str) -> Result<Manifest, String> {
    with(&format!(
        r#"{{"schemes":[{{"scheme":"s","kind":"transport","client":{{"parameters":[{parameters}]}}}}]}}"#
    ))
}

#[test]
fn sound_manifests_are_read() {
    let manifest = parameters(
        r#"{"name":"b","type":"integer","position":2,"default":"7"},{"name":"a","type":"text","position":1}"#,
    )
    .unwrap();
    let role = manifest.plugin.schemes[0].client.as_ref().unwrap();
    assert_eq!(role.positions, [1, 0]);
    assert_eq!(role.parameter("b").unwrap().checked_default.as_ref().unwrap().number, 7);
}

#[test]
fn unknown_fields_are_told_by_their_place() {
    let manifest =
        parameters(r#"{"name":"a","type":"text","requird":true},{"name":"b","type":"text","unt":"x"}"#);
    let prefix = "schemes.0.client.parameters";
    let expected = [format!("{prefix}.0.requird"), format!("{prefix}.1.unt")];
    assert_eq!(manifest.unwrap().unknown_fields, expected);
}

#[test]
fn unsound_manifests_are_refused_with_the_reason() {
    for (parameter, reason) in [
        (r#"{"name":"a","type":"text"},{"name":"a","type":"text"}"#, "declared twice"),
        (r#"{"name":"a:b","type":"text"}"#, "cannot be a parameter"),
        (r#"{"name":"a","type":"nonsense"}"#, "unknown variant"),
        (r#"{"name":"a","type":"text","position":2}"#, "positions"),
        (r#"{"name":"a","type":"text","required":true,"default":"x"}"#, "required and has a default"),
        (r#"{"name":"a","type":"integer","default":"x"}"#, "the default of a: \"x\" is not a "),
        (r#"{"name":"a","type":"choice"}"#, "no choices"),
        (r#"{"name":"a","type":"rest"},{"name":"b","type":"text","position":1}"#, "leaves no position"),
        (r#"{"name":"a","type":"rest"},{"name":"b","type":"rest"}"#, "two parameters"),
        (r#"{"name":"a","type":"client","list":true}"#, "cannot be a list"),
        (r#"{"name":"a","type":"text","requires":["b"]}"#, "requires b"),
        (r#"{"name":"a","type":"text","default_from":"b"}"#, "taken from b"),
        (r#"{"name":"a","type":"text","default_from":"a"}"#, "taken from a"),
        (
            r#"{"name":"a","type":"text","default_from":"b","default":"x"},{"name":"b","type":"text"}"#,
            "two defaults",
        ),
        (r#"{"name":"a","type":"text","default_from":"b"},{"name":"b","type":"path"}"#, "another type"),
    ] {
        let error = parameters(parameter).unwrap_err();
        assert!(error.contains(reason), "{parameter}: {error}");
    }
    for (groups, reason) in [
        (r#"[{"names":["a"]}]"#, "fewer than two"),
        (r#"[{"names":["a","x"]}]"#, "x, which is no parameter"),
        (r#"[{"names":["a","b"]}]"#, "b, which is required"),
    ] {
        let parameters = r#"{"name":"a","type":"text"},{"name":"b","type":"text","required":true}"#;
        let client = format!(r#"{{"parameters":[{parameters}],"one_of":{groups}}}"#);
        let error =
            with(&format!(r#"{{"schemes":[{{"scheme":"s","kind":"transport","client":{client}}}]}}"#))
                .unwrap_err();
        assert!(error.contains(reason), "{groups}: {error}");
    }
    let error = with("{\n \"schemes\": [{\"scheme\": \"s\"}]\n}").unwrap_err();
    assert_eq!(error, "plugin.json: missing field `kind` at line 2 column 28");
    assert!(with(r#"{"schemes":[]}"#).unwrap_err().contains("no scheme"));
    assert!(Manifest::parse("{").is_err());
}
