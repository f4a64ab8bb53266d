//! How a line of a node's log looks when it has no colours: `MOMENT LEVEL TARGET: MESSAGE FIELD=VALUE ...`, as
//! `tracing_subscriber` writes it. An edge writes one for each answer, and its formatter, which thinks of colours at
//! every word, was a sixth of the cost of a small one.
//!
//! Keeps true: a line is one line, and has no control character, whoever sent what stands in it.

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime as Stamp},
    },
    registry::LookupSpan,
};

/// Bytes of a moment up to its second: `2026-11-29T12:13:14`.
const SECOND_BYTES: usize = 19;
const MESSAGE: &str = "message";
/// A line that took more room gives it back.
const LINE_BYTES_KEPT_MAX: usize = 4096;

/// Writes the lines.
pub(crate) struct PlainLines;

impl<S, N> FormatEvent<S, N> for PlainLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        thread_local! {
            /// Room for a line of this thread.
            static LINE: Cell<String> = const { Cell::new(String::new()) };
        }
        // What a field writes may log by itself, so the room is taken and not borrowed.
        let mut line = LINE.take();
        line.clear();
        push_moment(&mut line)?;
        line.push_str(match *event.metadata().level() {
            Level::ERROR => " ERROR ",
            Level::WARN => "  WARN ",
            Level::INFO => "  INFO ",
            Level::DEBUG => " DEBUG ",
            Level::TRACE => " TRACE ",
        });
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                line.push_str(span.name());
                if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(Plain(&mut line), "{{{fields}}}")?;
                }
                line.push(':');
            }
            line.push(' ');
        }
        line.push_str(event.metadata().target());
        line.push(':');
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        line.push('\n');
        let written = to.write_str(&line);
        if line.capacity() <= LINE_BYTES_KEPT_MAX {
            LINE.set(line);
        }
        written
    }
}

/// Adds the moment in UTC, to the microsecond.
fn push_moment(line: &mut String) -> fmt::Result {
    thread_local! {
        /// The last second that a line of this thread began in.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut micros = *b".000000Z";
    let mut rest = now.subsec_micros();
    for digit in micros[1..7].iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() || text.is_empty() {
            text.clear();
            Stamp.format_time(&mut Writer::new(text))?;
            text.truncate(SECOND_BYTES);
            *second = now.as_secs();
        }
        line.push_str(text);
        Ok(())
    })?;
    line.push_str(std::str::from_utf8(&micros).unwrap_or_default());
    Ok(())
}

/// Adds fields one after the other.
struct Fields<'l> {
    line: &'l mut String,
    written: fmt::Result,
}

impl Fields<'_> {
    /// Adds the name of a field.
    fn name(&mut self, field: &Field) {
        self.line.push(' ');
        if field.name() != MESSAGE {
            self.line.push_str(field.name());
            self.line.push('=');
        }
    }

    /// Adds a field whose value writes itself.
    fn shown(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.name(field);
        self.written = self.written.and_then(|()| Plain(self.line).write_fmt(value));
    }

    fn number(&mut self, field: &Field, number: impl itoa::Integer) {
        self.name(field);
        self.line.push_str(itoa::Buffer::new().format(number));
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_simple = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
        if field.name() == MESSAGE {
            self.shown(field, format_args!("{value}"));
        } else if is_simple {
            self.name(field);
            self.line.push('"');
            self.line.push_str(value);
            self.line.push('"');
        } else {
            self.shown(field, format_args!("{value:?}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.shown(field, format_args!("{value}"));
        let mut source = value.source();
        while let Some(cause) = source {
            self.written = self.written.and_then(|()| write!(Plain(self.line), ": {cause}"));
            source = cause.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.shown(field, format_args!("{value:?}"));
    }
}

/// Writes control characters as escapes.
struct Plain<'l>(&'l mut String);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Most have none. Those above U+007F begin with the byte 0xc2.
        if text.bytes().all(|byte| byte >= b' ' && byte != 0x7f && byte != 0xc2) {
            self.0.push_str(text);
            return Ok(());
        }
        for char in text.chars() {
            match char.is_control() {
                true => self.0.extend(char.escape_default()),
                false => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use testing::Heard;
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    use tracing_subscriber::{Registry, fmt, layer::SubscriberExt};

    use super::*;

    /// Returns what is logged, without the moment: by these lines, and by those of `tracing_subscriber`.
    fn logged(log: impl Fn()) -> [String; 2] {
        let (ours, theirs) = (Heard::default(), Heard::default());
        let (to_ours, to_theirs) = (ours.clone(), theirs.clone());
        let layer = fmt::layer().with_ansi(false).with_writer(move || to_ours.clone()).event_format(PlainLines);
        tracing::subscriber::with_default(Registry::default().with(layer), &log);
        let layer = fmt::layer().with_ansi(false).with_writer(move || to_theirs.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), &log);
        let is_moment = |line: &str| OffsetDateTime::parse(&line[..SECOND_BYTES + 8], &Rfc3339).is_ok();
        assert!(ours.text().lines().all(is_moment), "{}", ours.text());
        [ours, theirs].map(|heard| {
            let rest = |line: &str| line.get(SECOND_BYTES + 8..).unwrap_or_default().to_owned() + "\n";
            heard.text().lines().map(rest).collect()
        })
    }

    #[test]
    fn a_line_is_what_tracing_subscriber_writes() {
        let [ours, theirs] = logged(|| {
            let (none, error) = (None::<u64>, std::io::Error::other("no room"));
            tracing::info!(target: "access", request = %"0123", version = ?http::Version::HTTP_11, none, ms = 17_u128);
            tracing::warn!(
                bytes = u64::MAX,
                below = -3,
                flag = true,
                half = 0.5,
                name = "a \"b\" \\ ü\n",
                "said {}",
                1
            );
            tracing::error!(error = %error, "nothing goes");
            tracing::debug!(error = &error as &dyn std::error::Error, "why");
            tracing::info_span!("outer", number = 3).in_scope(|| {
                tracing::info_span!("inner").in_scope(|| tracing::trace!("inside"));
            });
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours.lines().count(), 5);
    }

    #[test]
    fn nobody_adds_a_line_or_a_colour() {
        let [ours, _] = logged(|| {
            let said = "\u{1b}[31mred\r\n2026-11-29 ERROR evernear: made up\u{9b}\u{7f}\t";
            tracing::info!(said, shown = %said, debugged = ?said, "{said}");
        });
        assert_eq!(ours.lines().count(), 1, "{ours}");
        assert!(!ours.trim_end().contains(char::is_control), "{ours:?}");
        assert_eq!(ours.matches("made up").count(), 4);
    }
}
