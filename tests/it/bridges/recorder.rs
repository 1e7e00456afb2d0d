//! A subscriber that remembers spans and events, and draws them as a tree.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Subscriber;
use tracing::{Dispatch, Event, Metadata};
use tracing_core::span::Current;

/// What was traced so far. All clones are one.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The span of number `n` is at `n - 1`.
    spans: Vec<Span>,
    /// What has no span around it.
    roots: Vec<Item>,
    entered: HashMap<ThreadId, Vec<usize>>,
    /// What no caller may do: leave what was not entered, enter what is closed.
    faults: Vec<String>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    fields: Vec<(&'static str, String)>,
    follows: Vec<usize>,
    items: Vec<Item>,
    handles: usize,
}

#[derive(Clone)]
enum Item {
    Span(usize),
    Event(String),
}

impl Recorder {
    /// Records what `f` traces on this thread.
    pub(crate) fn record<R>(&self, f: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch(), f)
    }

    pub(crate) fn dispatch(&self) -> Dispatch {
        Dispatch::new(self.clone())
    }

    /// Compares the tree with what is expected; every span is to be closed and left, but for those marked `(open)`.
    ///
    /// A span is drawn as its name and its fields but for `class`, `id` and `made_in`, an event as `- text`.
    #[track_caller]
    pub(crate) fn expect(&self, tree: &str) {
        let state = self.state();
        assert_eq!(state.faults, [""; 0]);
        let mut drawing = String::new();
        state.draw(&state.roots, 0, &mut drawing);
        let tree: Vec<_> = tree.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let margin = tree.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        let tree: String = tree.iter().flat_map(|line| [&line[margin..], "\n"]).collect();
        assert!(drawing == tree, "got\n{drawing}\nexpected\n{tree}");
    }

    /// The fields of the first span of this name.
    #[track_caller]
    pub(crate) fn fields(&self, name: &str) -> Vec<(&'static str, String)> {
        let state = self.state();
        let span = state.spans.iter().find(|span| span.metadata.name() == name);
        span.unwrap_or_else(|| panic!("no span {name:?}")).fields.clone()
    }

    /// The names of the spans that are entered on this thread, from the outermost.
    pub(crate) fn entered(&self) -> Vec<&'static str> {
        let state = self.state();
        let entered = state.entered.get(&thread::current().id()).into_iter().flatten();
        entered.map(|number| state.spans[number - 1].metadata.name()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl State {
    fn draw(&self, items: &[Item], depth: usize, drawing: &mut String) {
        for item in items {
            write!(drawing, "{:1$}", "", 2 * depth).unwrap();
            match item {
                Item::Event(text) => writeln!(drawing, "- {text}").unwrap(),
                Item::Span(number) => {
                    let span = &self.spans[number - 1];
                    writeln!(drawing, "{}{}", span.metadata.name(), self.trimmings(span)).unwrap();
                    self.draw(&span.items, depth + 1, drawing);
                }
            }
        }
    }

    fn trimmings(&self, span: &Span) -> String {
        let shown = span.fields.iter().filter(|(name, _)| !["class", "id", "made_in"].contains(name));
        let fields: Vec<_> = shown.map(|(name, value)| format!(" {name}={value}")).collect();
        let follows: Vec<_> = span
            .follows
            .iter()
            .map(|from| format!(" after {}", self.spans[from - 1].metadata.name()))
            .collect();
        let open = if span.handles > 0 { " (open)" } else { "" };
        [fields.concat(), follows.concat(), open.to_owned()].concat()
    }

    fn top(&self) -> Option<usize> {
        self.entered.get(&thread::current().id())?.last().copied()
    }

    fn add(&mut self, parent: Option<usize>, item: Item) {
        match parent {
            Some(parent) => self.spans[parent - 1].items.push(item),
            None => self.roots.push(item),
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() != "unwanted"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.state();
        let number = state.spans.len() + 1;
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let (metadata, follows, items) = (attributes.metadata(), Vec::new(), Vec::new());
        state.spans.push(Span { metadata, fields: fields.0, follows, items, handles: 1 });
        let contextual = || state.top().filter(|_| attributes.is_contextual());
        let parent = attributes.parent().map(number_of).or_else(contextual);
        state.add(parent, Item::Span(number));
        Id::from_u64(number as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.state().spans[number_of(span) - 1].follows.push(number_of(follows));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let texts: Vec<_> = fields.0.into_iter().map(|(_, text)| text).collect();
        let mut state = self.state();
        let top = state.top();
        state.add(top, Item::Event(texts.join(" ")));
    }

    fn enter(&self, span: &Id) {
        let (mut state, number) = (self.state(), number_of(span));
        if state.spans[number - 1].handles == 0 {
            state.faults.push(format!("{number} entered after it was closed"));
        }
        state.entered.entry(thread::current().id()).or_default().push(number);
    }

    fn exit(&self, span: &Id) {
        let (mut state, number) = (self.state(), number_of(span));
        let entered = state.entered.entry(thread::current().id()).or_default();
        match entered.iter().rposition(|other| *other == number) {
            Some(at) => drop(entered.remove(at)),
            None => state.faults.push(format!("{number} left, but not entered")),
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.state().spans[number_of(span) - 1].handles += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut state = self.state();
        let number = number_of(&span);
        if state.entered.values().flatten().any(|other| *other == number) {
            state.faults.push(format!("{number} closed while it is entered"));
        }
        state.spans[number - 1].handles -= 1;
        state.spans[number - 1].handles == 0
    }

    fn current_span(&self) -> Current {
        let state = self.state();
        match state.top() {
            Some(number) => Current::new(Id::from_u64(number as u64), state.spans[number - 1].metadata),
            None => Current::none(),
        }
    }
}

fn number_of(id: &Id) -> usize {
    usize::try_from(id.into_u64()).expect("numbers are small")
}

#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }
}
