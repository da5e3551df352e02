//! Reads a stream of server-sent events (HTML Standard, section 9.2.6) as it comes.

use std::collections::VecDeque;

/// The lines so far, and the events that ended.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return, which may be half of a line's end.
    after_return: bool,
    ended: VecDeque<Vec<u8>>,
}

impl EventReader {
    /// Takes what came.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        if chunk.is_empty() {
            return;
        }
        let mut rest = chunk;
        if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
            rest = &rest[1..];
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            self.line.extend_from_slice(&rest[..end]);
            self.end_line();
            let is_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            match rest.first() {
                Some(b'\n') if is_return => rest = &rest[1..],
                None => self.after_return = is_return,
                Some(_) => {}
            }
        }
        self.line.extend_from_slice(rest);
    }

    /// The data of the next event that ended. Events without data are none.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.ended.pop_front()
    }

    /// Bytes that are kept.
    pub(crate) fn len(&self) -> usize {
        self.line.len() + self.data.len() + self.ended.iter().map(Vec::len).sum::<usize>()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) && !data.is_empty() {
                self.ended.push_back(data);
            }
            return;
        }
        let Some(value) = line.strip_prefix(b"data") else { return };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            // Another field whose name begins so.
            None => return,
        };
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = EventReader::default();
        for chunk in chunks {
            reader.push(chunk);
        }
        std::iter::from_fn(|| reader.next()).map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn events_have_their_lines_of_data_and_nothing_else() {
        let stream = b": hello\r\n\r\nevent: message\r\ndata: {\"a\":1}\r\nid: 7\r\n\r\ndata:{\"b\":\ndata: 2}\n\n: bye\n\ndata\n\ndatax: 1\n\n";
        assert_eq!(events(&[stream]), ["{\"a\":1}", "{\"b\":\n2}"]);
        assert_eq!(events(&[b"data: a\r\rdata:  b\r\r"]), ["a", " b"]);
        assert_eq!(events(&[b"data: not ended\n"]), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_how_the_stream_is_cut(
            text in "(data: ?|:|[ab]|\r\n|\r|\n){0,30}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&chunks), events(&[text.as_bytes()]));
        }
    }
}
