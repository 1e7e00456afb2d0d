//! J1, J2: what a structured record says of its context.

use context::bridges::ContextLogger;
use context::{Context, Inherit, Key};
use log::kv::{self, Value, VisitSource};
use log::{Log, Metadata, Record};
use std::sync::Mutex;

/// Keeps the last record: its text and its key-values, in order.
#[derive(Default)]
struct Keep(Mutex<Vec<String>>);

impl Log for Keep {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "unwanted"
    }

    fn log(&self, record: &Record<'_>) {
        struct Pairs(Vec<String>);
        impl<'kvs> VisitSource<'kvs> for Pairs {
            fn visit_pair(&mut self, key: kv::Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
                // What is found by a visit is found by its name.
                self.0.push(format!("{key}={value}"));
                Ok(())
            }
        }
        let mut pairs = Pairs(vec![record.args().to_string()]);
        record.key_values().visit(&mut pairs).unwrap();
        *self.0.lock().unwrap() = pairs.0;
    }

    fn flush(&self) {}
}

/// Logs `text` with these key-values, in what is current, and returns what arrives.
fn logged(text: &str, pairs: &[(&str, Value<'_>)]) -> Vec<String> {
    let logger = ContextLogger::new(Keep::default());
    logger.log(&Record::builder().args(format_args!("{text}")).key_values(&pairs).build());
    logger.flush();
    let mut kept = logger.inner().0.lock().unwrap();
    std::mem::take(&mut *kept)
}

#[test]
fn j01_a_record_without_a_context_is_as_it_was() {
    assert_eq!(logged("text", &[("own", Value::from(1))]), ["text", "own=1"]);
    assert_eq!(logged("text", &[]), ["text"]);
}

#[test]
fn j01_a_record_in_a_context_has_its_name_class_and_number() {
    let context = Context::root("j01 context");
    let id = context.id();
    let record = context.scope(|| logged("text", &[("own", Value::from(1))]));
    let name = format!("context=j01 context#{id}");
    assert_eq!(record, ["text", "own=1", &name, "context_class=j01 context", &format!("context_id={id}")]);
}

#[test]
fn j01_a_record_in_a_request_has_its_fields_and_logged_values_too() {
    static USER: Key<String> = Key::new("user").logged(Clone::clone);
    static OWN: Key<u32> = Key::new("own").inherit(Inherit::None).logged(u32::to_string);
    static SECRET: Key<&str> = Key::new("secret");
    let request = Context::builder("j01 request")
        .field("peer", "::1")
        .value(&USER, "ann".to_owned())
        .value(&OWN, 7)
        .value(&SECRET, "swordfish")
        .build();
    let part = Context::builder("j01 part").parent(&request).field("peer", "nearer").build();
    assert_eq!(request.scope(|| logged("text", &[]))[4..], ["peer=::1", "user=ann", "own=7"]);
    assert_eq!(part.scope(|| logged("text", &[]))[4..], ["peer=nearer", "user=ann"]);
}

#[test]
fn j01_what_the_record_says_itself_is_never_overwritten() {
    let request = Context::builder("j01 own").field("user", "ann").field("peer", "::1").build();
    let own =
        [("user", Value::from("bob")), ("context", Value::from("mine")), ("context_id", Value::from(0))];
    let record = request.scope(|| logged("text", &own));
    let expected = ["text", "user=bob", "context=mine", "context_id=0", "context_class=j01 own", "peer=::1"];
    assert_eq!(record, expected);
}

#[test]
fn j01_a_key_is_found_by_its_name() {
    struct Find;
    impl Log for Find {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            let find = |key: &str| record.key_values().get(kv::Key::from(key)).map(|value| value.to_string());
            assert_eq!(find("user").as_deref(), Some("bob"));
            assert_eq!(find("peer").as_deref(), Some("::1"));
            assert_eq!(find("context_class").as_deref(), Some("j01 found"));
            assert_eq!(find("nothing"), None);
            assert_eq!(record.key_values().count(), 5);
        }
        fn flush(&self) {}
    }
    let request = Context::builder("j01 found").field("user", "ann").field("peer", "::1").build();
    let pairs = [("user", "bob")];
    let record = Record::builder().key_values(&pairs).build();
    request.scope(|| ContextLogger::new(Find).log(&record));
}

#[test]
fn j02_an_error_stays_an_error() {
    let error = std::io::Error::other("disk full");
    let error: &(dyn std::error::Error + 'static) = &error;
    struct Look;
    impl Log for Look {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            let value = record.key_values().get(kv::Key::from("error")).unwrap();
            assert_eq!(value.to_borrowed_error().unwrap().to_string(), "disk full");
        }
        fn flush(&self) {}
    }
    let pairs = [("error", Value::from_dyn_error(error))];
    let record = Record::builder().key_values(&pairs).build();
    Context::builder("j02").field("error", "hidden").build().scope(|| ContextLogger::new(Look).log(&record));
    let in_context = Context::root("j02").scope(|| logged("failed", &pairs));
    assert_eq!(in_context[..2], ["failed", "error=disk full"]);
}

#[test]
fn j02_a_sink_that_fails_is_not_asked_further() {
    struct Full(u32);
    impl<'kvs> VisitSource<'kvs> for Full {
        fn visit_pair(&mut self, _: kv::Key<'kvs>, _: Value<'kvs>) -> Result<(), kv::Error> {
            self.0 += 1;
            if self.0 == 2 { Err(kv::Error::msg("full")) } else { Ok(()) }
        }
    }
    struct Sink;
    impl Log for Sink {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            let mut full = Full(0);
            assert!(record.key_values().visit(&mut full).is_err());
            assert_eq!(full.0, 2);
        }
        fn flush(&self) {}
    }
    let request = Context::builder("j02 sink").field("peer", "::1").build();
    request.scope(|| ContextLogger::new(Sink).log(&Record::builder().build()));
}

#[test]
fn the_logger_inside_decides_what_is_logged() {
    let logger = ContextLogger::new(Keep::default());
    let metadata = |target| Metadata::builder().target(target).build();
    assert!(logger.enabled(&metadata("wanted")) && !logger.enabled(&metadata("unwanted")));
}
