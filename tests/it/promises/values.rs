//! P16: typed values inform, they do not control.

use context::{Context, Inherit, Key};

static USER: Key<String> = Key::new("user");
static ALONE: Key<u32> = Key::new("alone").inherit(Inherit::None);
static SHOWN: Key<u32> = Key::new("shown").logged(|n| format!("<{n}>"));
static NAMESAKE: Key<String> = Key::new("user");

fn fields(context: &Context) -> Vec<String> {
    let mut fields = Vec::new();
    context.visit_fields(|name, value| fields.push(format!("{name}={value}")));
    fields
}

#[runtime::test]
async fn p16_descendants_see_a_value_and_the_nearest_wins() {
    let root = Context::builder("p16 root").value(&USER, "ann".to_owned()).build();
    let child = root.child("p16 child");
    let other = Context::builder("p16 other").parent(&child).value(&USER, "bob".to_owned()).build();
    let user = |context: &Context| context.get(&USER).cloned();
    assert_eq!(user(&child.child("p16 leaf")).as_deref(), Some("ann"));
    assert_eq!(user(&other.child("p16 leaf")).as_deref(), Some("bob"));
    assert_eq!(user(&root).as_deref(), Some("ann"));
}

#[runtime::test]
async fn p16_keys_are_private_by_identity_not_by_name() {
    let root = Context::builder("p16 root").value(&USER, "ann".to_owned()).build();
    assert_eq!(root.get(&NAMESAKE), None);
}

#[runtime::test]
async fn p16_each_key_says_whether_children_inherit_it() {
    let root = Context::builder("p16 root").value(&ALONE, 1).build();
    assert_eq!((root.get(&ALONE), root.child("p16 child").get(&ALONE)), (Some(&1), None));
}

#[runtime::test]
async fn p16_each_key_says_whether_logs_show_it() {
    let root =
        Context::builder("p16 root").field("peer", "::1").value(&SHOWN, 7).value(&USER, "ann".into()).build();
    assert_eq!(fields(&root.child("p16 child")), ["peer=::1", "shown=<7>"]);
}
