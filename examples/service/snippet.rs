//! The part of a text that shows why it was found.
//!
//! FTS5 has a function for that, `snippet`, which compares every hit in a row with every other: a file of a megabyte of one word
//! held a connection for minutes. This one looks at each word of the beginning of the text once.

use std::collections::HashSet;

/// Of each text, what is looked at, in characters.
pub(super) const TEXT_MAX: usize = 64 * 1024;
/// Words of a snippet.
const WORDS: usize = 12;
/// Of which so many stand before the first hit.
const WORDS_BEFORE: usize = 2;
/// Bytes of a snippet, marks not counted.
const BYTES_MAX: usize = 400;

/// The words that are looked for, in lower case, as FTS5's default tokenizer cuts them.
pub(super) struct Wanted(HashSet<String>);

/// A word of a text: from where to where, and whether it was looked for.
struct Word {
    from: usize,
    to: usize,
    hit: bool,
}

impl Wanted {
    pub(super) fn new(query: &str) -> Self {
        Self(bounds(query).map(|(from, to)| query[from..to].to_lowercase()).collect())
    }

    /// The dozen words with the most different hits among them, hits in brackets; the beginning of `text` if there are none.
    pub(super) fn snippet(&self, text: &str) -> String {
        let mut lower = String::new();
        let mut is_wanted = |word: &str| {
            lower.clear();
            lower.extend(word.chars().flat_map(char::to_lowercase));
            self.0.contains(lower.as_str())
        };
        let words: Vec<Word> =
            bounds(text).map(|(from, to)| Word { from, to, hit: is_wanted(&text[from..to]) }).collect();
        let best = self.best(text, &words);
        // A hit at the beginning is shown with the beginning.
        let first = if best < WORDS / 2 { 0 } else { best - WORDS_BEFORE };
        let shown = &words[first..words.len().min(first + WORDS)];
        let is_last = first + shown.len() == words.len();
        write(text, shown, first > 0, is_last)
    }

    /// The hit from which the next dozen words have the most different ones.
    fn best(&self, text: &str, words: &[Word]) -> usize {
        let (mut best, mut most) = (0, 0);
        for (at, _) in words.iter().enumerate().filter(|(_, word)| word.hit) {
            let window = words[at..words.len().min(at + WORDS - WORDS_BEFORE)].iter();
            let hits = window.filter(|word| word.hit).map(|word| text[word.from..word.to].to_lowercase());
            let different = hits.collect::<HashSet<_>>().len();
            if different > most {
                (best, most) = (at, different);
            }
            if most == self.0.len() {
                break;
            }
        }
        best
    }
}

/// From where to where the words of `text` go: letters and digits, as FTS5's tokenizer has it.
fn bounds(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + text[at..].find(char::is_alphanumeric)?;
        let length = text[from..].find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len() - from);
        at = from + length;
        Some((from, at))
    })
}

fn write(text: &str, words: &[Word], has_more_before: bool, is_last: bool) -> String {
    let mut snippet = String::from(if has_more_before { "…" } else { "" });
    let Some(first) = words.first() else { return snippet };
    let mut at = if has_more_before { first.from } else { 0 };
    let end = (0..=text.len().min(at + BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    for word in words.iter().filter(|word| word.hit && word.to <= end) {
        snippet.push_str(&text[at..word.from]);
        snippet.extend(["[", &text[word.from..word.to], "]"]);
        at = word.to;
    }
    let last = if is_last { text.len() } else { words.last().map_or(at, |word| word.to) };
    let until = last.min(end).max(at);
    snippet.push_str(&text[at..until]);
    if until < text.trim_end().len() {
        snippet.push('…');
    }
    snippet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(query: &str, text: &str) -> String {
        Wanted::new(query).snippet(text)
    }

    #[test]
    fn hits_are_marked_in_the_words_around_them() {
        assert_eq!(
            snippet("sentinel", "The Sentinel stands for nobody."),
            "The [Sentinel] stands for nobody."
        );
        let long = "a b c d e f g h i j k l m n o p".repeat(3);
        assert_eq!(snippet("h", &long), "…f g [h] i j k l m n o pa b…");
        assert_eq!(
            snippet("nothing", "A text. With nothing? No: with «nichts»"),
            "A text. With [nothing]? No: with «nichts»"
        );
        assert_eq!(
            snippet("x y", "x a a a a a a a a a a a a a a y x"),
            "…a a [y] [x]",
            "the most different ones"
        );
        assert_eq!(snippet("foo-bar", "foo bar"), "[foo] [bar]");
        assert_eq!(snippet("ÉTÉ", "l'été"), "l'[été]");
    }

    #[test]
    fn odd_texts_are_cut_where_characters_end() {
        assert_eq!(snippet("x", ""), "");
        assert_eq!(snippet("x", "?!"), "");
        assert_eq!(snippet("x", "nothing of it"), "nothing of it");
        let endless = "é".repeat(10_000);
        let cut = snippet("x", &endless);
        assert!(cut.ends_with("é…") && cut.len() <= BYTES_MAX + 3, "{}", cut.len());
        let spaces = format!("x{}x", " ".repeat(10_000));
        assert!(snippet("x", &spaces).starts_with("[x] ") && snippet("x", &spaces).len() < BYTES_MAX + 10);
    }

    /// Each word is looked at once: four times the text takes four times as long, and not sixteen.
    #[test]
    fn v4_a_text_of_one_word_is_no_dearer_than_another() {
        let looks = |words: usize| {
            let text = "ERROR ".repeat(words);
            let wanted = Wanted::new("ERROR missing");
            let (_, cpu) = cpu_of(|| wanted.snippet(&text));
            cpu
        };
        let (small, large) = (looks(2_500), looks(10_000));
        assert!(large < small * 10, "{small:?} for 2,500 hits, {large:?} for 10,000");
    }

    fn cpu_of<T>(f: impl FnOnce() -> T) -> (T, std::time::Duration) {
        let work = context::Context::root("v4 snippet");
        let value = work.scope(f);
        (value, work.usage().cpu)
    }
}
