//! The files of a new plugin, and what is put into them.

use serde_json::json;

use super::Kind;

/// Paths in the new folder, and what the files say before the replacements.
pub(super) fn of(kind: Kind) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = match kind {
        Kind::Transport => TRANSPORT,
        Kind::Wrapper => WRAPPER,
    };
    COMMON.iter().chain(own).copied()
}

macro_rules! files {
    ($($path:literal: $template:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $template)))),*]
    };
}

type Files = &'static [(&'static str, &'static str)];

const COMMON: Files = files! {
    "Cargo.toml": "common/Cargo.toml.in",
    "README.md": "common/README.md",
    "PACKAGING.md": "common/PACKAGING.md",
    ".gitignore": "common/gitignore",
    ".github/workflows/ci.yml": "common/ci.yml",
};

const TRANSPORT: Files = files! {
    "plugin.json": "transport/plugin.json",
    "src/lib.rs": "transport/src/lib.rs",
    "tests/transport.rs": "transport/tests/transport.rs",
};

const WRAPPER: Files = files! {
    "plugin.json": "wrapper/plugin.json",
    "src/lib.rs": "wrapper/src/lib.rs",
    "tests/wrapper.rs": "wrapper/tests/wrapper.rs",
};

/// What stands in place of `{{…}}`.
pub(super) struct Replacements {
    name: String,
    plugin_api: String,
    dependencies: &'static str,
    /// A server description to try it with.
    pub(super) server: String,
    /// The client description that reaches it.
    pub(super) client: String,
}

impl Replacements {
    /// `plugin_api` is the folder of endpoints-plugin-api, where it is not to come from crates.io.
    pub(super) fn new(name: &str, kind: Kind, plugin_api: Option<String>) -> Self {
        let plugin_api = match plugin_api {
            // A string of JSON is one of TOML.
            Some(folder) => format!("path = {}", json!(folder)),
            None => "version = \"1\"".to_owned(),
        };
        let (dependencies, server, client) = match kind {
            Kind::Transport => ("", format!("{name}:app"), format!("{name}:app")),
            Kind::Wrapper => (
                "tokio = { version = \"1\", default-features = false, features = [\"io-util\"] }\n",
                format!(r"{name}:tcp\:7000\:interface\=127.0.0.1"),
                format!(r"{name}:tcp\:127.0.0.1\:7000"),
            ),
        };
        Self { name: name.to_owned(), plugin_api, dependencies, server, client }
    }

    pub(super) fn apply(&self, template: &str) -> String {
        template
            .replace("{{name}}", &self.name)
            .replace("{{crate}}", &self.name.replace('-', "_"))
            .replace("{{plugin_api}}", &self.plugin_api)
            .replace("{{dependencies}}", self.dependencies)
            .replace("{{server}}", &self.server)
            .replace("{{client}}", &self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_be_replaced() {
        for kind in [Kind::Transport, Kind::Wrapper] {
            let replacements = Replacements::new("a-b", kind, Some("/a \"b\"\\c".to_owned()));
            for (path, template) in of(kind) {
                let text = replacements.apply(template);
                assert!(!text.contains("{{"), "{path}: {text}");
            }
            let manifest = replacements.apply(COMMON[0].1);
            assert!(manifest.contains(r#"endpoints-plugin-api = { path = "/a \"b\"\\c" }"#), "{manifest}");
        }
    }
}
