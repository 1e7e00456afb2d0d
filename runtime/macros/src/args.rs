//! The options between the parentheses. A wrong option is told and left out; the others still count, so that the
//! code which comes out is as near to what was meant as it can be.

use crate::errors::Errors;
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Lit, LitInt, LitStr, Result, Token};

/// The options of `#[runtime::main]`.
#[derive(Default)]
pub(crate) struct MainArgs {
    pub(crate) name: Option<LitStr>,
    pub(crate) class: Option<LitStr>,
    pub(crate) blocking_threads: Option<Literal>,
    pub(crate) slow_poll_ms: Option<Literal>,
    /// The variant of `runtime::Clock`.
    pub(crate) clock: Option<Ident>,
    pub(crate) seed: Option<Literal>,
}

impl MainArgs {
    const KNOWN: &str = "`name`, `class`, `blocking_threads`, `slow_poll_ms`, `clock`, `seed`";

    /// Reads what stands between the parentheses of `#[runtime::main(..)]`.
    pub(crate) fn read(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        for setting in settings(tokens, errors) {
            args.set(&setting).unwrap_or_else(|error| errors.push(error));
        }
        args
    }

    fn set(&mut self, setting: &Setting) -> Result<()> {
        match setting.key.to_string().as_str() {
            "name" => self.name = Some(setting.text("\"api\"")?),
            "class" => self.class = Some(setting.text("\"main\"")?),
            "blocking_threads" => self.blocking_threads = Some(setting.number(1, "4")?),
            "slow_poll_ms" => self.slow_poll_ms = Some(setting.number(1, "50")?),
            "clock" => self.clock = Some(setting.clock()?),
            "seed" => self.seed = Some(setting.number(0, "7")?),
            _ => return Err(setting.unknown("#[runtime::main]", Self::KNOWN)),
        }
        Ok(())
    }
}

/// The options of `#[runtime::test]`.
#[derive(Default)]
pub(crate) struct TestArgs {
    pub(crate) class: Option<LitStr>,
    pub(crate) paused: bool,
    pub(crate) seed: Option<Literal>,
    pub(crate) shuffle: bool,
    pub(crate) allow_reports: bool,
}

impl TestArgs {
    const KNOWN: &str = "`class`, `paused`, `seed`, `shuffle`, `allow_reports`";

    /// Reads what stands between the parentheses of `#[runtime::test(..)]`.
    pub(crate) fn read(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        for setting in settings(tokens, errors) {
            args.set(&setting).unwrap_or_else(|error| errors.push(error));
        }
        args
    }

    fn set(&mut self, setting: &Setting) -> Result<()> {
        match setting.key.to_string().as_str() {
            "class" => self.class = Some(setting.text("\"GET /x\"")?),
            "paused" => self.paused = setting.flag()?,
            "shuffle" => self.shuffle = setting.flag()?,
            "allow_reports" => self.allow_reports = setting.flag()?,
            "seed" => self.seed = Some(setting.number(0, "7")?),
            _ => return Err(setting.unknown("#[runtime::test]", Self::KNOWN)),
        }
        Ok(())
    }
}

/// One option as written: `paused` or `seed = 7`. The value is checked by whoever knows the key.
struct Setting {
    key: Ident,
    value: Option<syn::Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { key, value })
    }
}

/// Splits the options; of an option given twice the first counts.
fn settings(tokens: TokenStream, errors: &mut Errors) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let parsed = match Punctuated::<Setting, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(parsed) => parsed,
        Err(error) => {
            errors.push(error);
            return settings;
        }
    };
    for setting in parsed {
        if settings.iter().any(|earlier| earlier.key == setting.key) {
            errors.push(Error::new_spanned(&setting.key, format!("`{}` is given twice", setting.key)));
        } else {
            settings.push(setting);
        }
    }
    settings
}

impl Setting {
    fn text(&self, example: &str) -> Result<LitStr> {
        match self.literal() {
            Some(Lit::Str(text)) => Ok(text.clone()),
            _ => Err(self.wrong_value("a string literal", example)),
        }
    }

    fn number(&self, least: u64, example: &str) -> Result<Literal> {
        let wanted = match least {
            0 => "an integer literal that fits in 64 bits".to_owned(),
            _ => format!("an integer literal of at least {least}"),
        };
        match self.literal() {
            Some(Lit::Int(number)) => value_of(number).filter(|value| *value >= least),
            _ => None,
        }
        .map(Literal::u64_unsuffixed)
        .ok_or_else(|| self.wrong_value(&wanted, example))
    }

    fn clock(&self) -> Result<Ident> {
        let text = self.text("\"auto\"")?;
        let variant = match text.value().as_str() {
            "auto" => "Auto",
            "rseq" => "Rseq",
            "perf-page" => "PerfPage",
            "thread-clock" => "ThreadTime",
            other => {
                let known = "\"auto\", \"rseq\", \"perf-page\", \"thread-clock\"";
                return Err(Error::new_spanned(&text, format!("unknown clock {other:?}; there are {known}")));
            }
        };
        Ok(format_ident!("{variant}", span = Span::call_site()))
    }

    fn flag(&self) -> Result<bool> {
        match &self.value {
            None => Ok(true),
            Some(value) => Err(Error::new_spanned(value, format!("`{}` takes no value", self.key))),
        }
    }

    fn unknown(&self, attribute: &str, known: &str) -> Error {
        let Self { key, .. } = self;
        Error::new_spanned(key, format!("unknown option `{key}`; `{attribute}` knows {known}"))
    }

    fn wrong_value(&self, wanted: &str, example: &str) -> Error {
        let Self { key, value } = self;
        let place = value.as_ref().map_or_else(|| quote!(#key), |value| quote!(#value));
        Error::new_spanned(place, format!("`{key}` takes {wanted}, as in `{key} = {example}`"))
    }

    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Some(syn::Expr::Lit(value)) => Some(&value.lit),
            _ => None,
        }
    }
}

fn value_of(number: &LitInt) -> Option<u64> {
    if number.suffix().is_empty() { number.base10_parse().ok() } else { None }
}
