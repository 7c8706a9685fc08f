//! What a command runs with: the options of all commands, and what follows from them.

use std::path::Path;

use endpoints::{Error, ErrorKind, Registry};
use tracing::Level;

use crate::failure::Failure;
use crate::options::{Global, LogFormat, When};
use crate::standard_error::{self, Log};

pub(crate) struct Context {
    pub(crate) global: Global,
    /// Whether standard error is coloured.
    pub(crate) color: bool,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let color = wants_color(global.color.unwrap_or(When::Auto));
        Self { global, color }
    }

    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// The registry that the options ask for.
    pub(crate) fn registry(&self) -> Result<Registry, Error> {
        let Global {
            plugin_path,
            no_default_plugin_path,
            no_built_in,
            prefer,
            allow_plugin,
            deny_plugin,
            ..
        } = &self.global;
        let mut builder = Registry::builder().default_plugin_path(!no_default_plugin_path);
        for directory in plugin_path {
            check_directory(directory)?;
            builder = builder.plugin_path(directory);
        }
        match no_built_in.as_deref() {
            None => {}
            Some([]) => builder = builder.no_built_in(),
            Some(schemes) => {
                for scheme in schemes {
                    builder = builder.without_built_in(scheme);
                }
            }
        }
        for (scheme, plugin) in prefer {
            builder = builder.prefer(scheme, plugin);
        }
        for rule in allow_plugin {
            builder = builder.allow_plugin(rule.clone());
        }
        for rule in deny_plugin {
            builder = builder.deny_plugin(rule.clone());
        }
        builder.build()
    }

    /// From now on nothing that writes to standard error waits for who reads it, as is right for what serves.
    pub(crate) fn queue_standard_error(&self) -> Result<(), Failure> {
        let json = self.json() || matches!(self.log_format(), LogFormat::Json);
        standard_error::queue(json).map_err(|error| Failure::system("cannot begin", &error))
    }

    fn log_format(&self) -> LogFormat {
        self.global.log_format.unwrap_or(if self.json() { LogFormat::Json } else { LogFormat::Text })
    }

    /// Sets the log up. What users would want to know is told unasked.
    pub(crate) fn set_up_log(&self) {
        let level = match self.global.verbose {
            0 => Level::WARN,
            1 => Level::DEBUG,
            _ => Level::TRACE,
        };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(|| Log).with_ansi(self.color);
        match self.log_format() {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().init(),
        }
    }
}

pub(crate) fn wants_color(when: When) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && standard_error::is_terminal()
        }
    }
}

/// A folder that was named is meant: unlike a default place, it must be there, and open to be read.
pub(crate) fn check_directory(path: &Path) -> Result<(), Error> {
    let problem = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => match std::fs::read_dir(path) {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        },
        Ok(_) => "it is a file; name its folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::new(ErrorKind::InvalidSetting, format!("--plugin-path {}: {problem}", path.display())))
}
