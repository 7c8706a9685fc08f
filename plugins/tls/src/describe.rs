//! Descriptions of the endpoints below, written as the grammar wants them.

/// A description of keywords.
#[derive(Debug)]
pub(crate) struct Description(Vec<u8>);

impl Description {
    pub(crate) fn new(scheme: &str) -> Self {
        Self(scheme.as_bytes().to_vec())
    }

    /// Adds an argument, whatever its value has in it.
    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push(b':');
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        for byte in value.as_ref() {
            if matches!(byte, b'\\' | b':' | b'=') {
                self.0.push(b'\\');
            }
            self.0.push(*byte);
        }
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_for_themselves() {
        let mut description = Description::new("tcp");
        description.add("host", "::1");
        description.add("x", r"a=b\");
        assert_eq!(description.text(), br"tcp:host=\:\:1:x=a\=b\\");
    }
}
