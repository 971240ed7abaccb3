//! The ops against torchvision's functionals, and views as functions of their seed.

use std::collections::BTreeMap;

use super::automatic::{CHANGES, Change};
use super::*;

#[derive(serde::Deserialize)]
struct Reference {
    cases: BTreeMap<String, Vec<i64>>,
    spaces: BTreeMap<String, (f64, bool)>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../../tests/reference/augment.json")).unwrap()
}

const WIDTH: usize = 13;
const HEIGHT: usize = 9;

/// The picture of `tests/reference/augment.py`.
fn picture() -> Pixels {
    let mut state = 12345u64;
    let mut next = || {
        state = (1_103_515_245 * state + 12345) % (1 << 31);
        (state >> 16) as u8
    };
    Pixels {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        rgb: std::iter::repeat_with(&mut next).take(WIDTH * HEIGHT * 3).collect(),
    }
}

/// A case's result: how it is made, and how far a value may be off.
fn made(case: &str) -> (Vec<u8>, i64) {
    let words: Vec<&str> = case.split('/').collect();
    let number = |at: usize| words[at].parse::<f64>().unwrap();
    let numbers = |at: usize| words[at].split(',').map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
    let mut pixels = picture();
    let mut off = 0;
    match words[0] {
        "brightness" => colour::brightness(&mut pixels, number(1)),
        "contrast" => colour::contrast(&mut pixels, number(1)),
        "saturation" => colour::saturation(&mut pixels, number(1)),
        "sharpness" => colour::sharpness(&mut pixels, number(1)),
        "hue" => colour::hue(&mut pixels, number(1)),
        "posterize" => colour::posterize(&mut pixels, number(1) as u32),
        "solarize" => colour::solarize(&mut pixels, number(1)),
        "autocontrast" => {
            pixels.rgb.iter_mut().for_each(|value| *value = *value / 2 + 30);
            colour::autocontrast(&mut pixels);
        }
        "equalize" => {
            // So many pixels that the histogram has steps.
            let small = picture().rgb;
            let from = |x: usize, y: usize| (y % HEIGHT * WIDTH + x % WIDTH) * 3;
            let all = (0..100).flat_map(|y| (0..150).map(move |x| (x, y)));
            let rgb = all.flat_map(|(x, y)| small[from(x, y)..][..3].to_vec()).collect();
            pixels = Pixels { width: 150, height: 100, rgb };
            colour::equalize(&mut pixels);
            let kept = pixels.rgb.chunks(450).take(HEIGHT).flat_map(|row| row[..WIDTH * 3].to_vec());
            return (kept.collect(), 0);
        }
        "horizontal_flip" => flip::horizontally(&mut pixels),
        "vertical_flip" => flip::vertically(&mut pixels),
        "rotation" => {
            let (interpolation, most) = match words[2] {
                "nearest" => (Interpolation::Nearest, 0),
                _ => (Interpolation::Bilinear, 1),
            };
            off = most;
            rotation::rotate(&mut pixels, number(1), interpolation, 7.0);
        }
        "gaussian_blur" => {
            off = 1;
            gaussian_blur::gaussian_blur(&mut pixels, number(1) as usize, number(2));
        }
        "resized_crop" => {
            off = 1;
            let ([top, left, height, width], size) = (numbers(1)[..].try_into().unwrap(), numbers(2));
            let part = CropBox { top, left, height, width };
            random_resized_crop::resized_crop(&mut pixels, part, (size[0], size[1]), random_resized_crop::BILINEAR)
                .unwrap();
        }
        "change" => change(words[1]).apply(&mut pixels, number(2)),
        "erase" => {
            let planes: Vec<usize> = (0..3).collect();
            let mut input: Vec<f32> =
                planes.iter().flat_map(|c| picture().rgb.into_iter().skip(*c).step_by(3).map(f32::from)).collect();
            let part = CropBox { top: 2, left: 3, height: 4, width: 5 };
            random_erasing::erase(&mut input, (WIDTH, HEIGHT), part, || 0.0);
            return (input.iter().map(|value| *value as u8).collect(), 0);
        }
        other => panic!("{other}"),
    }
    (pixels.rgb, off)
}

fn change(name: &str) -> Change {
    CHANGES.into_iter().find(|change| format!("{change:?}") == name).unwrap()
}

#[test]
fn every_op_gives_torchvisions_pixels() {
    for (case, wanted) in reference().cases {
        let (have, off) = made(&case);
        assert_eq!(have.len(), wanted.len(), "{case}");
        let wrong: Vec<_> = (0..have.len()).filter(|&i| (i64::from(have[i]) - wanted[i]).abs() > off).collect();
        assert!(
            wrong.is_empty(),
            "{case}: {} of {} values, at {:?}",
            wrong.len(),
            have.len(),
            &wrong[..wrong.len().min(9)]
        );
    }
}

#[test]
fn strengths_are_torchvisions() {
    let (rand, trivial) = (RandAugment::default(), TrivialAugment::default());
    for (name, (wanted, signed)) in reference().spaces {
        let (space, name) = name.split_once('/').unwrap();
        let change = change(name);
        let have = match space {
            "rand" => rand.magnitude_of(change, (WIDTH as u32, HEIGHT as u32)),
            _ => trivial.magnitude_of(change, 17),
        };
        assert!((have - wanted).abs() < 1e-4 && change.is_signed() == signed, "{space} {name}: {have}, not {wanted}");
    }
}

fn all_ops() -> Vec<AugmentOp> {
    serde_json::from_value(serde_json::json!([
        {"kind": "random_resized_crop"}, {"kind": "horizontal_flip"}, {"kind": "vertical_flip"},
        {"kind": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        {"kind": "rotation", "degrees": 30}, {"kind": "gaussian_blur", "kernel_size": 5}, {"kind": "rand_augment"},
        {"kind": "trivial_augment"}, {"kind": "random_erasing", "value": "random"}
    ]))
    .unwrap()
}

fn view(augment: &Augment, sample: u8, number: u32) -> (Vec<u8>, Vec<f32>) {
    let view = augment.view(&Digest::of(&[sample]), number);
    let mut pixels = picture();
    view.change(&mut pixels, (8, 7)).unwrap();
    assert_eq!((pixels.width, pixels.height, pixels.rgb.len()), (8, 7, 8 * 7 * 3));
    let mut input = vec![1.0; 3 * 8 * 7];
    view.erase(&mut input, (8, 7));
    (pixels.rgb, input)
}

#[test]
fn a_view_is_a_function_of_seed_sample_and_number_alone() {
    // The automatic ones may move so small a picture out of itself, and black is like black.
    let mut ops = all_ops();
    ops.retain(|op| !matches!(op, AugmentOp::RandAugment(_) | AugmentOp::TrivialAugment(_)));
    let augment = Augment { ops, seed: 3 };
    let mut seen = std::collections::HashSet::new();
    for sample in 0..4 {
        for number in 1..6 {
            let made = view(&augment, sample, number);
            assert_eq!(made, view(&augment, sample, number));
            assert!(seen.insert(made.0), "two views are alike");
        }
    }
    assert_ne!(view(&augment, 0, 1), view(&Augment { seed: 4, ..augment.clone() }, 0, 1));
    // An op more at the end leaves what the ones before it draw.
    let longer = |count: usize| Augment { ops: all_ops()[..count].to_vec(), seed: 3 };
    let short = Augment { ops: vec![all_ops()[0].clone()], seed: 3 };
    assert_eq!(view(&short, 0, 1).0, view(&longer(1), 0, 1).0);
}

#[test]
fn crops_have_the_areas_and_ratios_asked_for() {
    let op = RandomResizedCrop { scale: [0.25, 0.5], ratio: [0.5, 2.0] };
    let augment = Augment { ops: vec![AugmentOp::RandomResizedCrop(op.clone())], seed: 1 };
    let mut pixels = Pixels::default();
    for sample in 0..50u8 {
        let view = augment.view(&Digest::of(&[sample]), 1);
        pixels.reset(200, 100);
        view.change(&mut pixels, (10, 10)).unwrap();
    }
    assert!(op.check().is_ok() && RandomResizedCrop { scale: [0.5, 2.0], ..op }.check().is_err());
    // Pictures of a pixel, and of a strip, are no problem to any op.
    let augment = Augment { ops: all_ops(), seed: 1 };
    for size in [(1, 1), (300, 1), (1, 300), (2, 2)] {
        for number in 1..20 {
            pixels.reset(size.0, size.1);
            augment.view(&Digest::of(b"x"), number).change(&mut pixels, (5, 6)).unwrap();
            assert_eq!((pixels.width, pixels.height), (5, 6));
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let problems = |value: serde_json::Value| {
        let config: AugmentConfig = serde_json::from_value(value).unwrap();
        config.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(problems(serde_json::json!({"views": 3, "ops": all_ops()})).is_empty());
    assert_eq!(problems(serde_json::json!({"views": 2})), ["ops"]);
    assert_eq!(problems(serde_json::json!({"views": 0})), ["views"]);
    let wrong = serde_json::json!({"views": 2, "ops": [
        {"kind": "horizontal_flip", "p": 2}, {"kind": "gaussian_blur", "kernel_size": 4},
        {"kind": "random_resized_crop"}, {"kind": "random_resized_crop", "scale": [0.5, 0.1]},
        {"kind": "color_jitter", "hue": 0.7}, {"kind": "rotation", "degrees": -1},
        {"kind": "rand_augment", "magnitude": 31}, {"kind": "random_erasing", "ratio": [0, 1]}
    ]});
    assert_eq!(problems(wrong), ["ops", "ops[0]", "ops[1]", "ops[3]", "ops[4]", "ops[5]", "ops[6]", "ops[7]"]);
    let unknown = serde_json::json!({"views": 2, "ops": [{"kind": "rotation", "degrees": 3, "fil": 1}]});
    assert!(serde_json::from_value::<AugmentConfig>(unknown).is_err());
}
