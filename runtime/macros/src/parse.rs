//! The function under the attribute.

use crate::errors::Errors;
use proc_macro2::{Group, TokenStream};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Result, Signature, Visibility};

/// A function, its body unread: the compiler parses it anyway, and an editor's half-typed body must not cost the
/// user the expansion.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Self {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl Function {
    /// Checks that `attribute` (as the user writes it) can run this function. Tells everything that is in the way;
    /// `false` if anything is.
    pub(crate) fn check(&self, attribute: &str, errors: &mut Errors) -> bool {
        let found = self.obstacles(attribute);
        let fits = found.is_empty();
        found.into_iter().for_each(|error| errors.push(error));
        fits
    }

    fn obstacles(&self, attribute: &str) -> Vec<Error> {
        let Signature { asyncness, constness, safety, abi, fn_token, ident, generics, inputs, .. } =
            &self.signature;
        let mut found = Vec::new();
        if asyncness.is_none() {
            let message = format!("`{attribute}` runs an `async fn`: write `async fn {ident}`");
            found.push(Error::new_spanned(fn_token, message));
        }
        let mut refuse = |tokens: &dyn ToTokens, what: &str| {
            let tokens = tokens.to_token_stream();
            if !tokens.is_empty() {
                found.push(Error::new_spanned(tokens, format!("a function under `{attribute}` {what}")));
            }
        };
        refuse(inputs, "takes no arguments");
        refuse(&generics.params, "takes no generic parameters");
        refuse(&generics.where_clause, "has no `where` clause");
        refuse(constness, "is not `const`");
        refuse(abi, "is not `extern`");
        refuse(safety, "is not `unsafe`");
        found
    }

    /// Tells if the function is a test already, which would then run twice.
    pub(crate) fn check_single_test(&self, errors: &mut Errors) -> bool {
        let twice = self.attributes.iter().find(|attribute| attribute.path().is_ident("test"));
        if let Some(attribute) = twice {
            let message = "`#[runtime::test]` makes this a test already: remove `#[test]`";
            errors.push(Error::new_spanned(attribute, message));
        }
        twice.is_none()
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.attributes.iter().for_each(|attribute| attribute.to_tokens(tokens));
        self.visibility.to_tokens(tokens);
        self.signature.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}
