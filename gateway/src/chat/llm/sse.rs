//! Reads server-sent events from bytes that are cut anywhere.

/// Most bytes of one event.
const MOST: usize = 4 * 1024 * 1024;

/// Collects bytes and gives the data of whole events.
#[derive(Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    any: bool,
    after_return: bool,
}

/// An event is larger than anything that a provider sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Events {
    /// Takes bytes; the result is the data of the events that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLarge> {
        let mut whole = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    whole.extend(self.end_line());
                }
                byte => {
                    self.after_return = false;
                    self.line.push(*byte);
                }
            }
            if self.line.len() + self.data.len() > MOST {
                return Err(TooLarge);
            }
        }
        Ok(whole)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.any).then(|| String::from_utf8_lossy(&data).into_owned());
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if self.any {
                self.data.push(b'\n');
            }
            self.any = true;
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": hello\r\n\r\nevent: a\ndata: {\"t\":\"ä€\"}\n\ndata:1\r\ndata: 2\r\n\r\ndata: [DONE]\r\r";

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let expected = ["{\"t\":\"ä€\"}", "1\n2", "[DONE]"];
        for size in 1..=STREAM.len() {
            let mut events = Events::default();
            let found: Vec<String> =
                STREAM.as_bytes().chunks(size).flat_map(|bytes| events.push(bytes).unwrap()).collect();
            assert_eq!(found, expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        let chunk = vec![b'x'; 1024 * 1024];
        assert!((0..5).any(|_| events.push(&chunk) == Err(TooLarge)));
    }
}
