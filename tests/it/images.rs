//! Network inputs of pictures against Pillow's and numpy's; `tests/reference/image_preprocess.py` made
//! the numbers.

use std::path::Path;

use caft::base::KeyWriter;
use caft::sample::Encoding;
use caft::sample::image::{ImagePreprocess, PIXELS_VERSION};
use serde::Deserialize;

use super::project::Project;

#[derive(Deserialize)]
struct Case {
    name: String,
    bytes: String,
    steps: ImagePreprocess,
    pixels: String,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The values as 0…255, before normalisation.
fn pixels(steps: &ImagePreprocess, bytes: &[u8]) -> Vec<f32> {
    steps.check().unwrap();
    let [channels, height, width] = steps.output_shape();
    let mut out = vec![f32::NAN; channels * height * width];
    steps.apply(bytes, &Encoding::Encoded, &mut out).unwrap();
    denormalised(steps, out)
}

fn denormalised(steps: &ImagePreprocess, mut values: Vec<f32>) -> Vec<f32> {
    let plane = values.len() / 3;
    for (channel, values) in values.chunks_mut(plane).enumerate() {
        values.iter_mut().for_each(|x| *x = (*x * steps.std[channel] + steps.mean[channel]) / steps.scale);
    }
    values
}

/// The share of values that differ by more than 2/255, and the largest difference.
fn difference(ours: &[f32], theirs: &[f32]) -> (f64, f32) {
    assert_eq!(ours.len(), theirs.len());
    let far = ours.iter().zip(theirs).filter(|(a, b)| (*a - *b).abs() > 2.01).count();
    let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (far as f64 / ours.len() as f64, most)
}

#[test]
fn small_pictures_of_every_kind_agree_with_pillow() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../reference/images.json")).unwrap();
    assert!(cases.len() >= 50);
    let mut wrong = Vec::new();
    for case in cases {
        let theirs: Vec<f32> = unhex(&case.pixels).into_iter().map(f32::from).collect();
        let (far, most) = difference(&pixels(&case.steps, &unhex(&case.bytes)), &theirs);
        if far > 0.01 {
            wrong.push(format!("{}: {:.1} % of values differ, by up to {most:.1}", case.name, far * 100.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same bytes and steps must give the same values for ever, or stored activations are not those that a
/// new run would compute. When this fails, raise `PIXELS_VERSION` and write both here. (Lossy formats are
/// left out: processors round them differently.)
#[test]
fn pixels_stay_the_same_within_a_version() {
    const GOLDEN: (u32, &str) = (2, "4dd3319564e11873");
    let cases: Vec<Case> = serde_json::from_str(include_str!("../reference/images.json")).unwrap();
    let mut key = KeyWriter::new("pixels");
    for case in cases.iter().filter(|case| !case.name.ends_with(".jpg") && case.name != "lossy.webp") {
        let values: Vec<u8> =
            pixels(&case.steps, &unhex(&case.bytes)).into_iter().map(|value| value.round() as u8).collect();
        key = key.field(&case.name, values);
    }
    assert_eq!((PIXELS_VERSION, key.finish().short(16).as_str()), GOLDEN);
}

/// Odd pictures are read, whatever their names end in; bad ones are each named before anything is computed, or
/// left out one by one.
#[test]
fn a_folder_of_odd_and_bad_pictures_is_told_apart() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../reference/images.json")).unwrap();
    let bytes_of = |name: &str| unhex(&cases.iter().find(|case| case.name == name).unwrap().bytes);
    let project = Project::new(12);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(project.path(&format!("data/train/warm/{name}")), bytes).unwrap();
    };
    for name in ["cmyk.jpg", "animated.gif", "animated.webp", "animated.png", "grey_16.tiff"] {
        write(name, &bytes_of(name));
    }
    write("a_png.jpg", &bytes_of("rgba.png"));
    write("a_jpeg.png", &bytes_of("420_progressive.jpg"));
    let jpeg = bytes_of("444.jpg");
    let mut damaged = bytes_of("rgb.png");
    let middle = damaged.len() / 2;
    // Within the stream, whose checksums no header shows.
    damaged[middle] ^= 0x55;
    damaged.truncate(damaged.len() - 12);
    let bad: [(&str, &[u8], &str); 6] = [
        ("empty.png", b"", "the file is empty"),
        ("words.jpg", b"no picture", "no picture that is known"),
        ("cut.jpg", &jpeg[..jpeg.len() / 2], "damaged"),
        ("damaged.png", &damaged, "damaged"),
        ("huge.ppm", b"P6\n60000 60000\n255\n", "60000×60000 pixels; at most"),
        ("nothing.pgm", b"P5\n0 0\n255\n", "0×0 pixels has no content"),
    ];
    bad.iter().for_each(|(name, bytes, _)| write(name, bytes));
    let failed = project.run(&["run", "recipe.yaml"]);
    assert!(failed.code == Some(2) && failed.stderr.contains("6 of 61 samples cannot be read"), "{failed:?}");
    let skipped = project.run(&["run", "recipe.yaml", "--json", "data.on_error=skip", "data.max_skipped=0.2"]);
    assert_eq!((skipped.code, &skipped.json()["skipped"]), (Some(0), &6.into()), "{skipped:?}");
    let list = project.path(skipped.json()["path"].as_str().unwrap()).join("skipped.jsonl");
    let list = std::fs::read_to_string(list).unwrap();
    assert_eq!(list.lines().count(), bad.len(), "{list}");
    for (name, _, why) in bad {
        for told in [&failed.stderr, &list] {
            assert!(told.lines().any(|line| line.contains(name) && line.contains(why)), "{name}: {why}: {told}");
        }
    }
}

/// Runs where the reference script has made larger pictures (see its first lines).
#[test]
fn larger_pictures_agree_with_pillow() {
    #[derive(Deserialize)]
    struct Larger {
        picture: String,
        preset: String,
        steps: ImagePreprocess,
        input: String,
    }
    let Some(folder) = std::env::var_os("CAFT_IMAGE_REFERENCE") else { return };
    let folder = Path::new(&folder);
    let cases: Vec<Larger> = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let (mut wrong, mut shares) = (Vec::new(), Vec::new());
    for case in &cases {
        let bytes = std::fs::read(folder.join(&case.input)).unwrap();
        let theirs = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let ours = pixels(&case.steps, &std::fs::read(&case.picture).unwrap());
        let (far, most) = difference(&ours, &denormalised(&case.steps, theirs));
        shares.push(far);
        // Of a dithered picture the overshoot of a cubic is cut after each pass, and the passes are here in
        // the other order.
        let dithered = case.picture.contains("_bits.") && case.preset == "bicubic";
        if far > 0.01 && !dithered {
            wrong.push(format!(
                "{} {}: {:.2} % of values differ, by up to {most:.1}",
                case.picture,
                case.preset,
                far * 100.0
            ));
        }
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(wrong.is_empty(), "{} of {} (mean {mean:.5}):\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
