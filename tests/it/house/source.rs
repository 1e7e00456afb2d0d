//! A Rust file as a flat row of tokens. The rules look for short patterns in it ("`crate`, two colons, a name"), which
//! is why a full syntax tree is not wanted: it would hide what stands inside macro calls.

use proc_macro2::{Delimiter, Punct, Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

const ITEM_KEYWORDS: [&str; 15] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// One token; comments are none, and doc comments are left out as well.
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
    /// Inside an item under `#[cfg(test)]`, or in a file of tests.
    pub(super) test: bool,
    /// Inside the body of a function.
    pub(super) body: bool,
    /// How many inline modules are around it.
    pub(super) modules: usize,
}

pub(super) enum Kind {
    Ident(String),
    Punct(char),
    /// With the index of its `Close`.
    Open(Delimiter, usize),
    Close,
    Literal,
}

/// A function with a body.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) first_line: usize,
    pub(super) last_line: usize,
}

/// One file, read.
pub(super) struct Source {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    pub(super) tokens: Vec<Token>,
    pub(super) functions: Vec<Function>,
    /// Lines with code on them; tests beside what they test not counted, files of tests are.
    pub(super) code_lines: usize,
}

impl Source {
    /// # Panics
    ///
    /// If the text is not Rust.
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let stream = text.parse::<TokenStream>().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut flat = Flat::default();
        flat.push_all(stream);
        let Flat { tokens, lines } = flat;
        let (functions, code_lines) = (Vec::new(), 0);
        let mut source = Self { path: path.to_owned(), tokens, functions, code_lines };
        source.mark_tests();
        source.mark_modules();
        source.mark_functions();
        let all = source.is_of_tests();
        let counts = |index: &usize| all || !source.tokens[*index].test;
        let covered = (0..source.tokens.len()).filter(counts).flat_map(|index| lines[index].clone());
        source.code_lines = covered.collect::<BTreeSet<_>>().len();
        source
    }

    pub(super) fn ident(&self, index: usize) -> Option<&str> {
        match &self.tokens.get(index)?.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn is_ident(&self, index: usize, name: &str) -> bool {
        self.ident(index) == Some(name)
    }

    pub(super) fn is_punct(&self, index: usize, punct: char) -> bool {
        matches!(self.tokens.get(index), Some(Token { kind: Kind::Punct(found), .. }) if *found == punct)
    }

    /// Two colons.
    pub(super) fn is_path_separator(&self, index: usize) -> bool {
        self.is_punct(index, ':') && self.is_punct(index + 1, ':')
    }

    /// The index of the `Close`, if an `Open` of this kind stands at `index`.
    pub(super) fn group(&self, index: usize, delimiter: Delimiter) -> Option<usize> {
        match self.tokens.get(index)?.kind {
            Kind::Open(found, close) if found == delimiter => Some(close),
            _ => None,
        }
    }

    /// All paths that begin at `index`: one, or several where braces follow (`a::{b, c::d}`).
    pub(super) fn paths_at(&self, index: usize) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.collect_paths(index, Vec::new(), &mut paths);
        paths
    }

    /// Returns the index past what it read.
    fn collect_paths(&self, mut index: usize, mut path: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
        loop {
            if let Some(close) = self.group(index, Delimiter::Brace) {
                let mut element = index + 1;
                while element < close {
                    let end = self.collect_paths(element, path.clone(), paths);
                    let comma = (end..close).find(|at| self.is_punct(*at, ','));
                    element = comma.map_or(close, |comma| comma + 1);
                }
                return close + 1;
            }
            let Some(name) = self.ident(index) else { break };
            path.push(name.to_owned());
            index += 1;
            if !self.is_path_separator(index) {
                break;
            }
            index += 2;
        }
        paths.push(path);
        index
    }

    /// The index after the attributes that begin at `index`.
    pub(super) fn skip_attributes(&self, mut index: usize) -> usize {
        while self.is_punct(index, '#') {
            match self.group(index + 1, Delimiter::Bracket) {
                Some(close) => index = close + 1,
                None => break,
            }
        }
        index
    }

    /// The index after a `pub` or `pub(..)` at `index`.
    pub(super) fn skip_visibility(&self, index: usize) -> usize {
        match (self.is_ident(index, "pub"), self.group(index + 1, Delimiter::Parenthesis)) {
            (true, Some(close)) => close + 1,
            (true, None) => index + 1,
            (false, _) => index,
        }
    }

    /// If `#[cfg(test)]` or `#[cfg(all(test, ..))]` stands at `index`.
    pub(super) fn is_cfg_test(&self, index: usize) -> bool {
        let bracket = if self.is_punct(index + 1, '!') { index + 2 } else { index + 1 };
        self.is_punct(index, '#')
            && self.group(bracket, Delimiter::Bracket).is_some()
            && self.is_ident(bracket + 1, "cfg")
            && (self.is_ident(bracket + 3, "test")
                || self.is_ident(bracket + 3, "all") && self.is_ident(bracket + 5, "test"))
    }

    /// Whether the whole file is.
    fn is_of_tests(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || (self.is_cfg_test(0) && self.is_punct(1, '!'))
    }

    fn mark_tests(&mut self) {
        if self.is_of_tests() {
            self.tokens.iter_mut().for_each(|token| token.test = true);
        }
        for index in 0..self.tokens.len() {
            if self.is_cfg_test(index) {
                let start = self.skip_attributes(index);
                let end = self.item_end(start);
                self.tokens[start..end].iter_mut().for_each(|token| token.test = true);
            }
        }
    }

    /// One past what begins at `start`: past the braces or the semicolon of an item, past the comma of a field.
    fn item_end(&self, start: usize) -> usize {
        let keyword = self.skip_visibility(start);
        let is_item = self.ident(keyword).is_some_and(|name| ITEM_KEYWORDS.contains(&name));
        let mut index = start;
        while let Some(token) = self.tokens.get(index) {
            match token.kind {
                Kind::Open(Delimiter::Brace, close) => return close + 1,
                Kind::Open(_, close) => index = close + 1,
                Kind::Punct(';') => return index + 1,
                Kind::Punct(',') if !is_item => return index + 1,
                Kind::Close => return index,
                _ => index += 1,
            }
        }
        index
    }

    fn mark_modules(&mut self) {
        for index in 0..self.tokens.len() {
            if self.is_ident(index, "mod") && self.ident(index + 1).is_some() {
                if let Some(close) = self.group(index + 2, Delimiter::Brace) {
                    self.tokens[index + 2..close].iter_mut().for_each(|token| token.modules += 1);
                }
            }
        }
    }

    fn mark_functions(&mut self) {
        for index in 0..self.tokens.len() {
            let (true, Some(name)) = (self.is_ident(index, "fn"), self.ident(index + 1)) else { continue };
            let (name, end) = (name.to_owned(), self.item_end(index));
            let Some(open) = (index..end).find(|at| self.group(*at, Delimiter::Brace) == Some(end - 1))
            else {
                continue; // declared only
            };
            self.tokens[open..end].iter_mut().for_each(|token| token.body = true);
            let (first_line, last_line) = (self.tokens[index].line, self.tokens[end - 1].line);
            self.functions.push(Function { name, first_line, last_line });
        }
    }
}

#[derive(Default)]
struct Flat {
    tokens: Vec<Token>,
    /// For each token the lines it covers; more than one for long literals.
    lines: Vec<RangeInclusive<usize>>,
}

impl Flat {
    fn push_all(&mut self, stream: TokenStream) {
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Punct(punct) if is_doc_comment(&punct) => {
                    // `#` or `#!`, then the brackets: all stand for the comment.
                    while let Some(TokenTree::Punct(_)) = trees.peek() {
                        trees.next();
                    }
                    trees.next();
                }
                TokenTree::Punct(punct) => self.push(Kind::Punct(punct.as_char()), punct.span()),
                TokenTree::Ident(ident) => self.push(Kind::Ident(ident.to_string()), ident.span()),
                TokenTree::Literal(literal) => self.push(Kind::Literal, literal.span()),
                TokenTree::Group(group) => {
                    let open = self.tokens.len();
                    self.push(Kind::Close, group.span_open());
                    self.push_all(group.stream());
                    self.tokens[open].kind = Kind::Open(group.delimiter(), self.tokens.len());
                    self.push(Kind::Close, group.span_close());
                }
            }
        }
    }

    fn push(&mut self, kind: Kind, span: Span) {
        let (line, last_line) = (span.start().line, span.end().line);
        self.tokens.push(Token { kind, line, test: false, body: false, modules: 0 });
        self.lines.push(line..=last_line);
    }
}

/// The lexer turns `/// text` into `#[doc = "text"]`; only the place in the text tells them apart.
fn is_doc_comment(punct: &Punct) -> bool {
    punct.as_char() == '#' && punct.span().source_text().is_some_and(|text| text.starts_with('/'))
}
