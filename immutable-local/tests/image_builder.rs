//! The contract of images (I1 to I5), and every recipe that is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use immutable_core::model::{FleetSpec, LaunchSpec, Release};
use immutable_core::provider::{ErrorKind, ImageBuilder, ImageSpec, Layer, Provisioner};
use immutable_local::{Drift, LocalConfig, LocalProvisioner, VerifyError};
use jiff::Timestamp;

use support::{Place, build, cx, done, file, in_image, program, spec, tamper};

fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn i1_an_unchanged_specification_is_built_once() {
    let place = Place::new();
    let spec = spec(vec![Layer::Files(vec![program("bin/app", &place.source("app", "app"))])]);
    let early = place.images().with_clock(|| Timestamp::UNIX_EPOCH);
    let first = build(&early, &spec).await;
    let inode = |image| fs::metadata(in_image(&place.root(), image, "bin/app")).unwrap().ino();
    let built = inode(&first);
    assert_eq!(build(&place.images(), &spec).await, first);
    assert_eq!(inode(&first), built);
    assert_eq!(first.labels.built_at, Timestamp::UNIX_EPOCH);
    assert_eq!(first.id.as_str(), format!("local:{}", first.fingerprint));
}

#[tokio::test]
async fn i1_labels_belong_to_the_first_build_and_every_service_sees_its_image() {
    let place = Place::new();
    let one = spec(vec![Layer::Files(vec![program("bin/app", &place.source("app", "app"))])]);
    let other = ImageSpec { version: "2.0.0".to_owned(), service: "api".parse().unwrap(), ..one.clone() };
    let images = place.images();
    let first = build(&images, &one).await;
    assert_eq!(build(&images, &other).await, first);
    assert_eq!(first.labels.version, "1.0.0");
    for service in ["web", "api"] {
        assert_eq!(
            images.list(&cx(), &service.parse().unwrap()).await.unwrap(),
            std::slice::from_ref(&first),
            "{service}"
        );
    }
    assert_eq!(images.list(&cx(), &"db".parse().unwrap()).await.unwrap(), []);
    assert_eq!(images.find(&cx(), &first.fingerprint).await.unwrap(), Some(first));
}

#[tokio::test]
async fn i1_two_builds_at_once_make_one_image() {
    let place = Place::new();
    let spec = spec(vec![Layer::Files(vec![program("bin/app", &place.source("app", "app"))])]);
    let images = place.images();
    let (one, other) = tokio::join!(build(&images, &spec), build(&images, &spec));
    assert_eq!(one, other);
}

#[tokio::test]
async fn i2_what_an_interrupted_build_left_is_not_an_image_and_goes() {
    let place = Place::new();
    let spec = spec(vec![Layer::Files(vec![program("bin/app", &place.source("app", "app"))])]);
    let image = build(&place.images(), &spec).await;
    done(place.images().remove(&cx(), &image).await.unwrap());
    let half = place.root().join(format!("images/.building-{}", image.fingerprint));
    fs::create_dir_all(half.join("tree/bin")).unwrap();
    fs::write(half.join("tree/bin/app"), "ap").unwrap();
    fs::create_dir_all(place.root().join("layers/.building-x")).unwrap();

    assert_eq!(place.images().find(&cx(), &image.fingerprint).await.unwrap(), None);
    assert_eq!(place.images().list(&cx(), &spec.service).await.unwrap(), []);
    let again = build(&place.images(), &spec).await;
    place.images().verify(&again).await.unwrap();
    assert_eq!(names(&place.root().join("images")), [again.fingerprint.to_string()]);
    assert_eq!(names(&place.root().join("layers")).len(), 1);
}

#[tokio::test]
async fn i2_a_build_waits_while_another_process_builds() {
    let place = Place::new();
    let spec = spec(vec![Layer::Files(vec![program("bin/app", &place.source("app", "app"))])]);
    fs::create_dir_all(place.root()).unwrap();
    let lock = fs::File::create(place.root().join("images.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(place.images().ensure(&cx(), &spec).await.unwrap().done(), None);
    lock.unlock().unwrap();
    build(&place.images(), &spec).await;
}

#[tokio::test]
async fn i3_a_tree_is_read_only_and_every_drift_is_found() {
    let place = Place::new();
    let files = vec![program("bin/app", &place.source("app", "app")), file("data/x", &place.source("x", "x"))];
    let images = place.images();
    let image = build(&images, &spec(vec![Layer::Files(files.clone())])).await;
    let at = |path: &str| in_image(&place.root(), &image, path);
    let mode = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("bin/app"), mode("data/x"), mode("bin"), mode("")], [0o555, 0o444, 0o555, 0o555]);
    images.verify(&image).await.unwrap();

    tamper(&at("data/x"), "y");
    let error = images.verify(&image).await.unwrap_err();
    assert!(matches!(&error, VerifyError::Drifted { path, drift: Drift::Changed, .. } if path == "data/x"));
    let text = format!(
        "image {} has drifted: \"data/x\" was changed; remove the image and build it again",
        image.fingerprint.short()
    );
    assert_eq!(error.to_string(), text);
    // The existing image is not answered with, and not repaired either.
    let error = images.ensure(&cx(), &spec(vec![Layer::Files(files.clone())])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Conflict, format!("conflict in build image of web: {text}"))
    );

    // The damaged layer that it shares is not used for the next build.
    done(images.remove(&cx(), &image).await.unwrap());
    let again = build(&images, &spec(vec![Layer::Files(files)])).await;
    assert_eq!(again.fingerprint, image.fingerprint);
    images.verify(&again).await.unwrap();
}

#[tokio::test]
async fn i3_a_damaged_layer_is_made_anew() {
    let place = Place::new();
    let shared = Layer::Files(vec![file("data/x", &place.source("x", "x"))]);
    let app = |content: &str| Layer::Files(vec![program("bin/app", &place.source("app", content))]);
    let images = place.images();
    let first = build(&images, &spec(vec![shared.clone(), app("one")])).await;
    tamper(&in_image(&place.root(), &first, "data/x"), "y");
    let second = build(&images, &spec(vec![shared, app("two")])).await;
    images.verify(&second).await.unwrap();
    images.verify(&first).await.unwrap_err();
}

#[tokio::test]
async fn i3_the_list_of_files_is_not_trusted_either() {
    let place = Place::new();
    let image = place.script("exit 0").await;
    let path = place.root().join(format!("images/{}/manifest.json", image.fingerprint));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"bin/app\"\n", "\"bin/other\"\n")).unwrap();
    let error = place.images().verify(&image).await.unwrap_err();
    assert!(matches!(&error, VerifyError::Drifted { path, .. } if path == "manifest.json"), "{error}");
}

#[tokio::test]
async fn an_unchanged_layer_is_not_copied_again() {
    let place = Place::new();
    let shared = Layer::Files(vec![file("data/x", &place.source("x", "x"))]);
    let app = |content: &str| Layer::Files(vec![program("bin/app", &place.source("app", content))]);
    let images = place.images();
    let first = build(&images, &spec(vec![shared.clone(), app("one")])).await;
    let second = build(&images, &spec(vec![shared, app("two")])).await;
    let inode = |image, path| fs::metadata(in_image(&place.root(), image, path)).unwrap().ino();
    assert_eq!(inode(&first, "data/x"), inode(&second, "data/x"));
    assert_ne!(inode(&first, "bin/app"), inode(&second, "bin/app"));
    assert_eq!(names(&place.root().join("layers")).len(), 3);
    // A layer goes with the last image that uses it.
    done(images.remove(&cx(), &first).await.unwrap());
    assert_eq!(names(&place.root().join("layers")).len(), 2);
    images.verify(&second).await.unwrap();
}

#[tokio::test]
async fn a_later_layer_wins_and_parents_are_nearest_first() {
    let place = Place::new();
    let images = place.images();
    let (app, one, two) = (place.source("app", "app"), place.source("one", "one"), place.source("two", "two"));
    let files = |files| spec(vec![Layer::Files(files)]);
    let base = build(&images, &files(vec![program("bin/app", &app), file("a", &one), file("b", &one)])).await;
    let on = |base: &_, mut spec: ImageSpec| {
        spec.recipe.base = Some(Clone::clone(base));
        spec
    };
    let middle = build(&images, &on(&base, files(vec![file("a", &two)]))).await;
    let top = build(&images, &on(&middle, files(vec![file("c", &two)]))).await;
    let read = |path| fs::read_to_string(in_image(&place.root(), &top, path)).unwrap();
    assert_eq!([read("bin/app"), read("a"), read("b"), read("c")], ["app", "two", "one", "two"]);
    assert_eq!(top.parents, [middle.fingerprint, base.fingerprint]);

    for (needed, by) in [(&base, &middle), (&middle, &top)] {
        let error = images.remove(&cx(), needed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let built_on = format!("image {} is built on it: remove that one first", by.id);
        let either = error.to_string().contains("is built on it: remove that one first");
        assert!(either && (needed.id == base.id || error.to_string().ends_with(&built_on)), "{error}");
    }
    for image in [&top, &middle, &base] {
        done(images.remove(&cx(), image).await.unwrap());
    }
    assert_eq!(names(&place.root().join("images")), [""; 0]);
    assert_eq!(names(&place.root().join("layers")), [""; 0]);
    done(images.remove(&cx(), &top).await.unwrap());
}

#[tokio::test]
async fn i5_an_image_that_an_instance_runs_stays() {
    let place = Place::new();
    let image = place.script("while :; do sleep 0.05; done").await;
    let service = "web".parse().unwrap();
    let release = Release::new(image.clone(), LaunchSpec::default());
    let fleet = FleetSpec {
        id: "web-1".parse().unwrap(),
        service: Clone::clone(&service),
        release,
        size: 1,
        rollout: "r-1".parse().unwrap(),
    };
    let fleets = LocalProvisioner::new(LocalConfig::new(place.root()));
    done(fleets.ensure(&cx(), &fleet).await.unwrap());
    let instance = &fleets.observe(&cx(), &service).await.unwrap().fleets[0].instances[0];
    let error = place.images().remove(&cx(), &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = format!("instance {} runs the image: retire it first", instance.id);
    assert!(error.to_string().ends_with(&text), "{error}");
    fleets.shut_down(&service).await.unwrap();
    done(place.images().remove(&cx(), &image).await.unwrap());
}

/// Builds something wrong, and expects exactly one sentence; `{dir}` stands for where the sources are.
async fn check_refused(change: impl FnOnce(&Place, &mut ImageSpec), expected: &str) {
    let place = Place::new();
    let files = vec![program("bin/app", &place.source("app", "app")), file("data/x", &place.source("x", "x"))];
    let mut spec = spec(vec![Layer::Files(files)]);
    change(&place, &mut spec);
    let error = place.images().ensure(&cx(), &spec).await.unwrap_err();
    let dir = place.root().parent().unwrap().to_str().unwrap().to_owned();
    assert_eq!(error.to_string(), format!("invalid request in build image of web: {expected}").replace("{dir}", &dir));
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(!place.root().exists(), "nothing is made: {expected}");
}

fn copies(spec: &mut ImageSpec) -> &mut Vec<immutable_core::provider::FileCopy> {
    match &mut spec.recipe.layers[0] {
        Layer::Files(files) => files,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn i4_a_source_that_cannot_be_used_is_refused() {
    let source = |spec: &mut ImageSpec, path: &Path| copies(spec)[1].source = path.to_path_buf();
    check_refused(
        |place, spec| source(spec, &place.root().with_file_name("none")),
        "layers[0].files[1].source: \"{dir}/none\" does not exist: make it, or name another file",
    )
    .await;
    check_refused(
        |place, spec| source(spec, place.root().parent().unwrap()),
        "layers[0].files[1].source: \"{dir}\" is a directory: name each file in it",
    )
    .await;
    check_refused(
        |place, spec| {
            let link = place.root().with_file_name("link");
            symlink("x", &link).unwrap();
            source(spec, &link);
        },
        "layers[0].files[1].source: \"{dir}/link\" is a symbolic link: resolve it yourself, and name the file it leads to",
    )
    .await;
    check_refused(
        |place, spec| {
            let link = place.root().with_file_name("link");
            symlink("../../nowhere", &link).unwrap();
            source(spec, &link);
        },
        "layers[0].files[1].source: \"{dir}/link\" is a symbolic link: resolve it yourself, and name the file it leads to",
    )
    .await;
    check_refused(
        |place, spec| {
            let socket = place.root().with_file_name("socket");
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            source(spec, &socket);
        },
        "layers[0].files[1].source: \"{dir}/socket\" is not a regular file: name one",
    )
    .await;
}

#[tokio::test]
async fn i4_a_script_is_refused_and_not_run() {
    check_refused(
        |place, spec| {
            let made = place.root().with_file_name("made-by-the-script");
            spec.recipe.layers.push(Layer::Script(format!("touch {}", made.display())));
        },
        "layers[1]: nothing can be run as root in an image that is a directory tree: run the script before the build, and add \
         the files that it makes",
    )
    .await;
}

#[tokio::test]
async fn i4_a_source_that_may_not_be_read_is_refused() {
    let place = Place::new();
    let secret = place.source("secret", "x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_ok() {
        // Root reads everything; the sentence itself is tested beside the code.
        return;
    }
    check_refused(
        |place, spec| {
            let secret = place.source("secret", "x");
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
            copies(spec)[1].source = secret;
        },
        "layers[0].files[1].source: \"{dir}/secret\" may not be read: allow it to be read",
    )
    .await;
}

#[tokio::test]
async fn i4_a_target_outside_the_image_is_refused() {
    let long = "x".repeat(256);
    let too_long = format!("{long:?} has a part of more than 255 bytes: shorten it");
    let cases: &[(&str, &str)] = &[
        ("", "\"\" is empty: name the file in the image"),
        ("/etc/x", "\"/etc/x\" is absolute: make it relative to the image's root"),
        ("../x", "\"../x\" has a `..` part: name a place inside the image"),
        ("a/../../x", "\"a/../../x\" has a `..` part: name a place inside the image"),
        ("a\\x", "\"a\\\\x\" has a backslash: use forward slashes"),
        ("a\0x", "\"a\\0x\" has a NUL character: remove it"),
        ("a//x", "\"a//x\" has an empty or `.` part: remove it"),
        ("./x", "\"./x\" has an empty or `.` part: remove it"),
        ("x/", "\"x/\" has an empty or `.` part: remove it"),
        (&long, &too_long),
    ];
    for (target, problem) in cases {
        let expected = format!("layers[0].files[1].target: {problem}");
        check_refused(|_, spec| copies(spec)[1].target = (*target).to_owned(), &expected).await;
    }
}

#[tokio::test]
async fn i4_targets_in_each_others_way_are_refused() {
    check_refused(
        |_, spec| copies(spec)[1].target = "bin/app".to_owned(),
        "layers[0].files[1].target: \"bin/app\" is the target of layers[0].files[0] already: remove one of the two",
    )
    .await;
    check_refused(
        |_, spec| copies(spec)[1].target = "bin/app/x".to_owned(),
        "layers[0].files[1].target: \"bin/app/x\" needs \"bin/app\" to be a directory, but layers[0].files[0] \
         makes it a file: rename one of the two",
    )
    .await;
    check_refused(
        |place, spec| spec.recipe.layers.push(Layer::Files(vec![file("bin", &place.source("y", "y"))])),
        "layers[1].files[0].target: \"bin\" is a directory already, because layers[0].files[0] makes \"bin/app\": \
         rename one of the two",
    )
    .await;
}

#[tokio::test]
async fn i4_a_command_that_cannot_run_is_refused() {
    let command = |parts: &'static [&str]| {
        move |_: &Place, spec: &mut ImageSpec| spec.recipe.command = parts.iter().map(|part| (*part).into()).collect()
    };
    let empty = "command: is empty: name a program of the image, and its arguments";
    check_refused(command(&[]), empty).await;
    check_refused(command(&[""]), empty).await;
    check_refused(command(&["bin/app", "a\0"]), "command[1]: has a NUL character: remove it").await;
    for program in ["sh", "/bin/sh", "./bin/app", "bin"] {
        let parts: &'static [&str] = Box::leak(Box::new([program]));
        let problem = "is not in the image: name the target of a file, relative to the image's root";
        check_refused(command(parts), &format!("command[0]: {program:?} {problem}")).await;
    }
    check_refused(
        command(&["data/x"]),
        "command[0]: \"data/x\" is not executable: set `executable` in layers[0].files[1]",
    )
    .await;
    // What counts is the layer that wins.
    check_refused(
        |place, spec| spec.recipe.layers.push(Layer::Files(vec![file("bin/app", &place.source("y", "y"))])),
        "command[0]: \"bin/app\" is not executable: set `executable` in layers[1].files[0]",
    )
    .await;
}

#[tokio::test]
async fn i4_a_base_that_cannot_be_trusted_is_refused() {
    let elsewhere = Place::new();
    let base = elsewhere.script("exit 0").await;
    let short = base.fingerprint.short();
    let absent = format!("base: image {short} is not here: build it first");
    check_refused(|_, spec| spec.recipe.base = Some(base.clone()), &absent).await;

    let mut on_base = spec(vec![]);
    on_base.recipe.base = Some(base.clone());
    tamper(&in_image(&elsewhere.root(), &base, "bin/app"), "evil");
    let error = elsewhere.images().ensure(&cx(), &on_base).await.unwrap_err();
    let drifted =
        format!("base: image {short} has drifted: \"bin/app\" was changed; remove the image and build it again");
    assert_eq!(error.to_string(), format!("invalid request in build image of web: {drifted}"));
}
