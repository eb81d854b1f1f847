//! The feed at a stand-in for the API server. At the end of each script the plan is that of the objects that the server has.

mod objects;
mod script;
mod standin;
mod world;

use futures::stream::{self, StreamExt};
use kube::runtime::watcher::Event;
use serde_json::Value;
use svcplane::catalog::Catalog;
use svcplane::plan::{LocalNode, Mode};
use svcplane_watch::{Feed, Mirror, Stored, merged, run};

use standin::{Answer, NODES, SERVICES, SLICES};
use world::World;

use objects::{node, service, slice};

/// Two Services, three slices and the node.
async fn two() -> World {
    let world = World::new().await;
    {
        let mut store = world.server.store();
        store.put(NODES, node("node-1", "a", "192.168.0.11", "10.1.1.0/24"));
        store.put(SERVICES, service("web", "10.96.0.10"));
        store.put(SERVICES, service("db", "10.96.0.11"));
        store.put(SLICES, slice("web-1", "web", &["10.1.1.2", "10.1.2.2"]));
        store.put(SLICES, slice("web-2", "web", &["10.1.3.2"]));
        store.put(SLICES, slice("db-1", "db", &["10.1.1.3"]));
    }
    world
}

#[tokio::test]
async fn everything_is_listed_page_by_page_before_anything_is_handed_on() {
    for late in [SERVICES, SLICES, NODES] {
        let mut world = two().await;
        world.server.store().page = 2;
        world.server.store().hold(late);
        world.start();
        let listed = |notices: &[String]| {
            notices.iter().filter(|notice| notice.starts_with("listed: ")).count()
        };
        world.until("two lists", |seen| listed(&seen.notices) == 2).await;
        assert_eq!(world.seen().updates, [], "without {late}");
        world.server.store().release(late);
        world.settled().await;
        let seen = world.seen();
        assert_eq!(listed(&seen.notices), 3, "{:?}", seen.notices);
        assert_eq!(seen.updates[0].services.len(), 2);
        assert_eq!(seen.updates.len(), 1);
        let store = world.server.store();
        let pages: Vec<_> = store.requests(SLICES).filter(|request| !request.is_watch()).collect();
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[1].query["continue"], "2");
        let node = store.requests(NODES).next().unwrap();
        assert_eq!(node.query["fieldSelector"], "metadata.name%3Dnode-1");
    }
}

#[tokio::test]
async fn objects_come_change_and_go() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let before = world.seen().updates.len();
    // A slice before its Service, and one that changes hands.
    world.server.store().put(SLICES, slice("new-1", "new", &["10.1.1.9"]));
    world.server.store().put(SLICES, slice("web-2", "db", &["10.1.3.2"]));
    world.settled().await;
    world.server.store().put(SERVICES, service("new", "10.96.0.12"));
    world.settled().await;
    let mut updates = world.seen().updates.split_off(before);
    let last = updates.pop().unwrap();
    assert_eq!(last.services.iter().map(ToString::to_string).collect::<Vec<_>>(), ["default/new"]);
    assert_eq!(world.backends("default/new"), ["10.1.1.9:8080"]);

    world.server.store().delete(SERVICES, "default/web");
    world.settled().await;
    world.server.store().delete(SLICES, "default/db-1");
    world.settled().await;
    assert_eq!(world.backends("default/db"), ["10.1.3.2:8080"]);
    // The same name, another Service.
    world.server.store().put(SERVICES, service("web", "10.96.0.99"));
    world.settled().await;
    assert_eq!(world.backends("default/web"), ["10.1.1.2:8080", "10.1.2.2:8080"]);
}

#[tokio::test]
async fn the_node_object_says_where_it_is_and_the_settings_stay() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let plan = world.seen().plan;
    assert!(plan.node().masquerade_all);
    assert_eq!(plan.node().zone.as_deref(), Some("a"));

    world.server.store().put(NODES, node("node-1", "b", "192.168.0.12", "10.1.9.0/24"));
    world.server.store().put(NODES, node("node-2", "c", "192.168.0.13", "10.1.8.0/24"));
    world.settled().await;
    let seen = world.seen();
    assert!(seen.updates.last().unwrap().plan.concerns_node());
    assert!(seen.plan.node().masquerade_all);
    assert_eq!(seen.plan.node().zone.as_deref(), Some("b"));

    // It says what it said: its status was written.
    let count = world.seen().updates.len();
    world.server.store().put(NODES, node("node-1", "b", "192.168.0.12", "10.1.9.0/24"));
    world.marked().await;
    assert_eq!(world.seen().updates.len(), count);

    // What it was stays when it is gone.
    world.server.store().delete(NODES, "node-2");
    world.server.store().delete(NODES, "node-1");
    world.noticed("no Node node-1: its addresses and zone stay as they are known").await;
    let seen = world.seen();
    assert_eq!(seen.plan.node().zone.as_deref(), Some("b"));
    assert_eq!(seen.notices.iter().filter(|notice| notice.starts_with("no Node")).count(), 1);
}

#[tokio::test]
async fn what_is_said_twice_is_no_change() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let lines = {
        let mut store = world.server.store();
        let web = store.put(SLICES, slice("web-1", "web", &["10.1.1.2", "10.1.2.5"]));
        let db = store.delete(SLICES, "default/db-1");
        [web, db]
    };
    world.settled().await;
    let count = world.seen().updates.len();
    for line in lines.iter().flat_map(|line| [line, line]) {
        world.server.store().send(SLICES, line);
    }
    world.marked().await;
    assert_eq!(world.seen().updates.len(), count);
    // The deletion is the last that is known of its name: it is no late news.
    assert!(!world.seen().notices.iter().any(|notice| notice.contains(" comes after ")));
    world.settled().await;
}

#[tokio::test]
async fn what_is_said_late_is_passed_over() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let lines = {
        let mut store = world.server.store();
        let old = store.write(SLICES, slice("web-1", "web", &["10.1.1.66"]));
        store.put(SLICES, slice("web-1", "web", &["10.1.1.4"]));
        let created = store.put(SLICES, slice("brief", "web", &["10.1.1.67"]));
        let deleted = store.delete(SLICES, "default/brief");
        store.put(SLICES, slice("again", "web", &["10.1.1.7"]));
        let again = store.delete(SLICES, "default/again");
        store.put(SLICES, slice("again", "web", &["10.1.1.8"]));
        // Each of these comes after what made it old.
        store.send(SLICES, &old);
        store.send(SLICES, &created);
        store.send(SLICES, &again);
        [old, created, deleted, again]
    };
    world.marked().await;
    world.settled().await;
    let seen = world.seen();
    let late: Vec<_> =
        seen.notices.iter().filter(|notice| notice.contains(" comes after ")).collect();
    assert_eq!(late.len(), 3, "{late:?}");
    assert_eq!(
        *late[0],
        format!(
            "EndpointSlice default/web-1: version {} comes after {}: passed over",
            world::version(&lines[0]),
            world::version(&lines[0]) + 1
        )
    );
    assert_eq!(world.backends("default/web"), ["10.1.1.4:8080", "10.1.1.8:8080", "10.1.3.2:8080"]);
}

#[tokio::test]
async fn versions_that_are_no_numbers_are_taken_as_they_come() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    {
        let mut store = world.server.store();
        let old = store.put(SLICES, slice("web-1", "web", &["10.1.1.66"]));
        let new = store.put(SLICES, slice("web-1", "web", &["10.1.1.4"]));
        let opaque = |line: &str| {
            let version = world::version(line).to_string();
            line.replace(&format!("\"{version}\""), &format!("\"v{version}\""))
        };
        let (old, new) = (opaque(&old), opaque(&new));
        store.send(SLICES, &new);
        store.send(SLICES, &old);
    }
    world.marked().await;
    assert_eq!(world.backends("default/web"), ["10.1.1.66:8080", "10.1.3.2:8080"]);
}

#[tokio::test]
async fn what_was_missed_is_found_by_a_new_list() {
    // Within the watch, as the first thing in the next one, and as the answer to it.
    for how in 0..3 {
        let mut world = two().await;
        world.start();
        world.settled().await;
        let count = world.seen().updates.len();
        {
            let mut store = world.server.store();
            for plural in [SERVICES, SLICES] {
                if how == 0 {
                    store.expire(plural);
                } else {
                    store.end(plural);
                }
            }
            if how == 2 {
                store.answer_watches(SLICES, &[Answer::Status(410, "too old resource version")]);
                store.answer_watches(SERVICES, &[Answer::Status(410, "too old resource version")]);
            }
            store.delete(SERVICES, "default/db");
            store.delete(SLICES, "default/web-2");
            store.put(SLICES, slice("late", "late", &["10.1.1.20"]));
            store.put(SERVICES, service("late", "10.96.0.30"));
            for plural in [SERVICES, SLICES] {
                store.compact(plural);
            }
        }
        world.settled().await;
        let seen = world.seen();
        for plural in [SERVICES, SLICES] {
            let relist = format!("watching {plural}: 410 too old resource version");
            let notices = &seen.notices;
            let told = notices.iter().find(|notice| notice.contains(&relist));
            assert!(told.is_some_and(|told| told.contains("; a new list in ")), "{notices:?}");
            let store = world.server.store();
            let lists = store.requests(plural).filter(|request| !request.is_watch()).count();
            assert_eq!(lists, 2, "{plural} {how}");
        }
        // What stays is not touched.
        world.server.store().put(SERVICES, service("web", "10.96.0.10"));
        world.marked().await;
        let updates = &world.seen().updates[count..];
        let touched = updates.iter().flat_map(|changes| changes.plan.services());
        let mut touched: Vec<_> = touched.map(|(name, _)| name.to_string()).collect();
        touched.sort();
        touched.dedup();
        assert_eq!(touched, ["default/db", "default/late", "default/web"]);
    }
}

#[tokio::test]
async fn a_list_that_stays_as_it_was_is_no_change() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let count = world.seen().updates.len();
    for plural in [SERVICES, SLICES, NODES] {
        world.server.store().expire(plural);
    }
    let listed = |seen: &world::Seen| {
        seen.notices.iter().filter(|notice| notice.starts_with("listed: ")).count()
    };
    world.until("new lists", |seen| listed(seen) == 6).await;
    world.marked().await;
    assert_eq!(world.seen().updates.len(), count);
    world.settled().await;
}

#[tokio::test]
async fn a_list_whose_pages_are_no_more_is_begun_again() {
    let mut world = two().await;
    world.server.store().page = 2;
    let page = world.server.store().hold(SLICES);
    world.start();
    // The first page is answered, the second is not.
    page.notify_one();
    world.asked("the second page", |store| store.requests(SLICES).count() == 2).await;
    {
        let mut store = world.server.store();
        let old = Answer::Status(410, "The provided continue parameter is too old");
        store.answer_lists(SLICES, &[old]);
        store.delete(SLICES, "default/db-1");
        store.put(SLICES, slice("web-1", "web", &["10.1.1.40"]));
        store.release(SLICES);
    }
    world.settled().await;
    assert_eq!(world.seen().updates.len(), 1);
}

#[tokio::test]
async fn a_cut_connection_is_taken_up_at_the_last_bookmark() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    let count = world.seen().updates.len();
    let bookmark = {
        let mut store = world.server.store();
        // Of others' objects: none of this kind has changed.
        let bookmark = store.bookmark(SLICES);
        let line = store.write(SLICES, slice("web-1", "web", &["10.1.1.2", "10.1.2.7"]));
        store.cut(SLICES, &line);
        bookmark
    };
    world.settled().await;
    let store = world.server.store();
    let slices: Vec<_> = store.requests(SLICES).collect();
    assert_eq!(slices.len(), 3, "one list, two watches: {slices:?}");
    assert!(slices[2].is_watch());
    assert_eq!(slices[2].version(), Some(bookmark.to_string().as_str()));
    assert_eq!(world.seen().updates.len(), count + 1);
}

#[tokio::test]
async fn a_server_that_fails_for_a_while_is_asked_at_growing_intervals() {
    let mut world = two().await;
    {
        let mut store = world.server.store();
        let broken = Answer::Status(500, "etcdserver: request timed out");
        store.answer_lists(SERVICES, &[broken, Answer::Page(502, "<html>\n"), Answer::HangUp]);
        store.answer_watches(SERVICES, &[broken, broken]);
        store.answer_lists(NODES, &[Answer::Status(403, "nodes is forbidden")]);
    }
    world.start();
    world.settled().await;
    let url = &world.server.url;
    let notices: Vec<String> =
        world.seen().notices.into_iter().filter(|it| it.contains(" services: ")).collect();
    assert_eq!(notices.len(), 5, "{notices:?}");
    assert_eq!(
        notices[0],
        format!("{url}/: listing services: 500 etcdserver: request timed out; again in 0.0ns")
    );
    assert_eq!(notices[1], format!("{url}/: listing services: 502 <html>; again in 0.0ns"));
    assert!(notices[2].contains("connection closed"), "{}", notices[2]);
    assert!(notices[3].starts_with(&format!("{url}/: watching services: 500 ")), "{}", notices[3]);
    assert!(world.seen().notices.iter().any(|it| it.contains("listing nodes: 403 nodes is forb")));
    // Nothing but an event is a success.
    assert_eq!(*world.pauses(SERVICES), [1, 2, 3, 4, 5]);
    assert_eq!(*world.pauses(NODES), [1]);
    world.server.store().put(SERVICES, service("web", "10.96.0.77"));
    world.settled().await;
    world.server.store().answer_watches(SERVICES, &[Answer::HangUp]);
    world.server.store().end(SERVICES);
    world
        .until("another error", |seen| {
            seen.notices.iter().filter(|it| it.contains(" services: ")).count() == 6
        })
        .await;
    assert_eq!(*world.pauses(SERVICES), [1, 2, 3, 4, 5, 1]);
    world.server.store().put(SERVICES, service("web", "10.96.0.78"));
    world.settled().await;
}

#[tokio::test]
async fn what_is_no_json_is_asked_for_again() {
    let mut world = two().await;
    world.server.store().answer_lists(SLICES, &[Answer::Page(200, "{\"items\": [{]}")]);
    world.start();
    world.settled().await;
    // A line that is garbage may have been any event.
    for garbage in
        ["<html>", "{\"type\":\"MODIFIED\",\"object\"}", "{\"type\":\"PURGED\",\"object\":{}}", "7"]
    {
        {
            let mut store = world.server.store();
            store.write(SLICES, slice("web-1", "web", &["10.1.1.31"]));
            store.send(SLICES, garbage);
        }
        world.settled().await;
        {
            let mut store = world.server.store();
            store.write(SLICES, slice("web-1", "web", &["10.1.1.2"]));
            store.send(SLICES, garbage);
        }
        world.settled().await;
    }
    let seen = world.seen();
    assert!(seen.notices.iter().any(|it| it.contains(": listing endpointslices: ")));
    let relists = |it: &&String| it.contains(": watching endpointslices: ");
    assert_eq!(seen.notices.iter().filter(relists).count(), 8, "{:?}", seen.notices);
    let odd = ": watching endpointslices: neither an event nor a Status; a new list in ";
    assert_eq!(seen.notices.iter().filter(|it| it.contains(odd)).count(), 2);
}

#[tokio::test]
async fn an_object_that_cannot_be_understood_is_passed_over_by_its_name() {
    let mut world = two().await;
    let mut port = service("odd", "10.96.0.50");
    port["spec"]["ports"][0]["port"] = "eighty".into();
    let mut nameless = slice("nameless", "web", &["10.1.1.99"]);
    nameless["metadata"]["labels"] = serde_json::json!({});
    {
        let mut store = world.server.store();
        store.put(SERVICES, port.clone());
        store.put(SLICES, nameless.clone());
        store.put(SLICES, serde_json::json!({"metadata": {"name": "no namespace"}}));
    }
    world.start();
    world.settled().await;
    for said in [
        "Service default/odd: passed over: spec.ports[0].port: ",
        "EndpointSlice default/nameless: passed over: ",
        "EndpointSlice no namespace: passed over: metadata: ",
    ] {
        world.noticed(said).await;
    }

    // One that was fine before stays as it was, also when all are listed anew.
    let mut web = service("web", "10.96.0.10");
    web["spec"]["ports"][0]["port"] = "eighty".into();
    nameless["metadata"]["name"] = "web-1".into();
    let count = world.seen().updates.len();
    let plan = world.seen().plan;
    {
        let mut store = world.server.store();
        store.put(SERVICES, web.clone());
        store.put(SLICES, nameless.clone());
    }
    world.noticed("Service default/web: the last good state stays: spec.ports[0].port").await;
    world.noticed("EndpointSlice default/web-1: the last good state stays: ").await;
    for plural in [SERVICES, SLICES] {
        world.server.store().expire(plural);
    }
    let listed = |seen: &world::Seen| {
        seen.notices.iter().filter(|notice| notice.starts_with("listed: ")).count()
    };
    world.until("new lists", |seen| listed(seen) == 5).await;
    world.marked().await;
    assert_eq!(world.seen().updates.len(), count);
    assert_eq!(world.seen().plan, plan);
    // It was told once.
    let kept = |it: &&String| it.contains("default/web: the last good state stays");
    assert_eq!(world.seen().notices.iter().filter(kept).count(), 1);

    // Another of its name is not it: if its predecessor's end was not told, and if both are missed.
    let predecessor = world.server.store().put(SERVICES, web.clone());
    let uid = "b5c3e6a2-77a1-4c0e-8f4e-1d2c3b4a5968";
    let mut line: Value = serde_json::from_str(&predecessor).unwrap();
    line["object"]["metadata"]["uid"] = uid.into();
    world.server.store().send(SERVICES, &line.to_string());
    world.until("no web", |seen| seen.plan.services().len() == 1).await;
    world.server.store().delete(SERVICES, "default/web");
    world.server.store().put(SERVICES, service("web", "10.96.0.10"));
    world.marked().await;
    {
        let mut store = world.server.store();
        store.end(SERVICES);
        store.delete(SERVICES, "default/web");
        store.put(SERVICES, web);
        store.compact(SERVICES);
    }
    world.settled().await;
    assert_eq!(world.backends("default/web"), [""; 0]);
}

#[tokio::test]
async fn what_an_object_cannot_say_is_left_out_and_told_once() {
    let mut world = two().await;
    let mut web = slice("web-1", "web", &["10.1.1.2", "10.1.2.2"]);
    web["endpoints"][1]["addresses"][0] = "10.1.2.256".into();
    world.server.store().put(SLICES, web.clone());
    world.start();
    world.settled().await;
    world.noticed("EndpointSlice default/web-1: left out: endpoints[1]").await;
    web["endpoints"][0]["zone"] = "elsewhere".into();
    world.server.store().put(SLICES, web);
    world.settled().await;
    world.marked().await;
    let told = |it: &&String| it.contains("left out");
    assert_eq!(world.seen().notices.iter().filter(told).count(), 1);
}

#[tokio::test]
async fn what_changes_while_the_consumer_is_busy_comes_at_once() {
    let mut world = two().await;
    world.start();
    world.settled().await;
    world.be_busy();
    let count = world.seen().updates.len();
    world.server.store().put(SERVICES, service("web", "10.96.0.20"));
    world.until("an update", |seen| seen.updates.len() == count + 1).await;
    {
        let mut store = world.server.store();
        for i in 0..100 {
            store.put(SLICES, slice("web-2", "web", &[format!("10.1.3.{i}").as_str()]));
            store.put(SLICES, slice(&format!("came-{i}"), "db", &["10.1.5.1"]));
        }
        for i in 0..100 {
            store.delete(SLICES, &format!("default/came-{i}"));
        }
    }
    world.marked().await;
    assert_eq!(world.seen().updates.len(), count + 1, "it is busy");
    world.be_idle();
    world.settled().await;
    let seen = world.seen();
    assert_eq!(seen.updates.len(), count + 2);
    let last = seen.updates.last().unwrap();
    let otherwise: Vec<_> = last.plan.services().map(|(name, _)| name.to_string()).collect();
    assert_eq!(otherwise, ["default/web"], "what came and went is no change");
}

/// What was said before a list comes before it, also if both are taken at once.
#[tokio::test]
async fn a_list_is_later_than_the_events_before_it() {
    fn said<T: Mirror>(object: &Value) -> Stored<T> {
        serde_json::from_value(object.clone()).unwrap()
    }
    let (web, db) = (service("web", "10.96.0.10"), service("db", "10.96.0.11"));
    let events = [
        Event::Init,
        Event::InitDone,
        Event::Apply(said(&web)),
        Event::Init,
        Event::InitApply(said(&db)),
        Event::InitDone,
    ];
    let inputs = merged(
        stream::iter(events.map(Ok)).boxed(),
        stream::iter([Event::Init, Event::InitDone].map(Ok)).boxed(),
        stream::iter([Event::Init, Event::InitDone].map(Ok)).boxed(),
    );
    let node = LocalNode::new("node-1".parse().unwrap());
    let mut feed = Feed::new(Catalog::new(node, Mode::Nftables));
    run(inputs, &mut feed, drop, |_, _| async {}).await;
    let known: Vec<String> =
        feed.catalog().services().map(|(service, _)| service.name.to_string()).collect();
    assert_eq!(known, ["default/db"]);
}

#[tokio::test]
async fn whatever_happens_the_plan_is_that_of_what_the_server_has() {
    for seed in 0..24 {
        script::run(seed, 60).await;
    }
}
