//! The code that comes out.

use crate::args::{MainArgs, TestArgs};
use crate::errors::Errors;
use crate::parse::Function;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// `#[runtime::main(args)] item`
pub(crate) fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let item = main_or_stub(args, item, &mut errors);
    with(errors, item)
}

/// `#[runtime::test(args)] item`
pub(crate) fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let item = test_or_stub(args, item, &mut errors);
    with(errors, item)
}

/// The errors come with the item, or everything that mentions the function would be a second error.
fn with(errors: Errors, item: TokenStream) -> TokenStream {
    let errors = errors.into_tokens();
    quote!(#errors #item)
}

fn main_or_stub(args: TokenStream, item: TokenStream, errors: &mut Errors) -> TokenStream {
    let args = MainArgs::read(args, errors);
    match syn::parse2::<Function>(item.clone()) {
        Ok(function) if function.check("#[runtime::main]", errors) => main_function(&args, &function),
        Ok(function) => stub(&function),
        Err(error) => unread(error, item, errors),
    }
}

fn test_or_stub(args: TokenStream, item: TokenStream, errors: &mut Errors) -> TokenStream {
    let args = TestArgs::read(args, errors);
    match syn::parse2::<Function>(item.clone()) {
        Ok(function) if function.check("#[runtime::test]", errors) & function.check_single_test(errors) => {
            test_function(&args, &function)
        }
        Ok(function) => stub(&function),
        Err(error) => unread(error, item, errors),
    }
}

fn main_function(args: &MainArgs, function: &Function) -> TokenStream {
    let name = &function.signature.ident;
    let builder = builder(args);
    outer(
        function,
        &quote! {
            match #builder.build() {
                ::core::result::Result::Ok(runtime) => runtime.run_main(#name()),
                ::core::result::Result::Err(error) => {
                    ::core::panic!("bursar: the runtime cannot start: {}", error)
                }
            }
        },
    )
}

fn builder(args: &MainArgs) -> TokenStream {
    let mut builder = quote!(::runtime::Runtime::builder());
    let MainArgs { name, class, blocking_threads, slow_poll_ms, clock, seed } = args;
    builder.extend(name.iter().map(|name| quote!(.name(#name))));
    builder.extend(class.iter().map(|class| quote!(.class(#class))));
    builder.extend(blocking_threads.iter().map(|threads| quote!(.blocking_threads(#threads))));
    let duration = quote!(::core::time::Duration::from_millis);
    builder.extend(slow_poll_ms.iter().map(|limit| quote!(.slow_poll(#duration(#limit)))));
    builder.extend(clock.iter().map(|clock| quote!(.clock(::runtime::Clock::#clock))));
    builder.extend(seed.iter().map(|seed| quote!(.seed(#seed))));
    builder
}

fn test_function(args: &TestArgs, function: &Function) -> TokenStream {
    let name = &function.signature.ident;
    let TestArgs { class, paused, seed, shuffle, allow_reports } = args;
    let (class, seed) = (optional(class.as_ref()), optional(seed.as_ref()));
    let call = quote! {
        ::runtime::testing::run(
            ::runtime::testing::Options {
                name: ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                class: #class,
                paused: #paused,
                seed: #seed,
                shuffle: #shuffle,
                allow_reports: #allow_reports,
            },
            #name(),
        )
    };
    let test = outer(function, &call);
    quote!(#[::core::prelude::v1::test] #test)
}

fn optional(value: Option<&impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// The function that is called, with the user's `async fn` inside it. An inner *function* rather than an `async`
/// block: the return type is written in it, so `?` and type errors are told as in any other `async fn`.
fn outer(function: &Function, call: &TokenStream) -> TokenStream {
    let Function { attributes, visibility, signature, body } = function;
    let (name, output) = (&signature.ident, &signature.output);
    quote! {
        #(#attributes)*
        #visibility fn #name() #output {
            #signature #body
            #call
        }
    }
}

/// What stands in for a function that cannot be run: it has the name, and the code as written inside, where the
/// compiler and an editor can go on reading it.
fn stub(function: &Function) -> TokenStream {
    let Function { visibility, signature, .. } = function;
    let name = &signature.ident;
    quote! {
        #[allow(dead_code)]
        #visibility fn #name() {
            #[allow(dead_code)]
            #function
        }
    }
}

fn unread(error: syn::Error, item: TokenStream, errors: &mut Errors) -> TokenStream {
    errors.push(error);
    item
}

#[cfg(test)]
mod tests;
