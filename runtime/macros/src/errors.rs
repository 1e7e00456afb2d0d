//! Mistakes are collected, so that one compilation tells all of them.

use proc_macro2::TokenStream;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Adds one mistake.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    /// The `compile_error!` calls that tell them; nothing if there are none.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}

#[cfg(test)]
impl IntoIterator for Errors {
    type Item = syn::Error;
    type IntoIter = std::iter::Flatten<std::option::IntoIter<syn::Error>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}
