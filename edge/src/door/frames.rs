//! What of the bytes of HTTP/2 that leave is content: the payload of frames DATA (RFC 9113 sections 4.1 and 6.1). Pure.

const HEAD_BYTES: usize = 9;
/// The type of a frame of content.
const DATA: u8 = 0;

/// How far the frames were followed.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of the frame that begins, and how much of it there is.
    head: [u8; HEAD_BYTES],
    begun: usize,
    /// Bytes of the frame's payload that are still to come.
    rest: usize,
    is_content: bool,
}

impl Frames {
    /// Returns how many of the next bytes are content.
    pub(super) fn content(&mut self, mut bytes: &[u8]) -> u64 {
        let mut content = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let payload = self.rest.min(bytes.len());
                content += if self.is_content { payload as u64 } else { 0 };
                self.rest -= payload;
                bytes = &bytes[payload..];
                continue;
            }
            let part = (HEAD_BYTES - self.begun).min(bytes.len());
            self.head[self.begun..self.begun + part].copy_from_slice(&bytes[..part]);
            self.begun += part;
            bytes = &bytes[part..];
            if self.begun == HEAD_BYTES {
                let [high, middle, low, kind, ..] = self.head;
                self.rest = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                (self.begun, self.is_content) = (0, kind == DATA);
            }
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, bytes: usize) -> Vec<u8> {
        let [.., high, middle, low] = bytes.to_be_bytes();
        [&[high, middle, low, kind, 0, 0, 0, 0, 1], &vec![0; bytes][..]].concat()
    }

    #[test]
    fn content_is_found_wherever_the_bytes_are_cut() {
        let (settings, headers, pong) = (frame(4, 12), frame(1, 300), frame(6, 8));
        let all = [settings, headers, frame(0, 70_000), pong, frame(0, 0), frame(0, 1)].concat();
        for width in [1, 2, 8, 9, 10, 1000, all.len()] {
            let mut frames = Frames::default();
            let found: u64 = all.chunks(width).map(|part| frames.content(part)).sum();
            assert_eq!((found, frames.begun, frames.rest), (70_001, 0, 0), "{width}");
        }
    }
}
