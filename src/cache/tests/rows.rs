//! Rows as they come back: in any order, in every dtype, by many threads.

use super::*;

#[test]
fn rows_come_back_in_any_order_from_any_number_of_shards() {
    for dtype in [DType::F32, DType::F16] {
        let sandbox = Sandbox::new(&[3, 5], dtype);
        let column = sandbox.column();
        assert_eq!(column.missing(&[digest(0), digest(1), digest(0)]), [0, 1]);
        fill(&column, 0..100, 7);
        assert!(!column.contains(&digest(5)), "a column is as it was when it was opened");
        column.refresh(&Silent).unwrap();
        assert_eq!(column.rows(), 100);
        let order = [99, 0, 50, 50, 7, 98];
        let reader = column.reader(&order.map(digest)).unwrap();
        assert_eq!((reader.len(), reader.row_shape()), (6, &[3, 5][..]));
        let mut out = vec![0.0; 3 * 15];
        reader.read(&[5, 0, 2], &mut out).unwrap();
        assert_eq!(out, [row(98, 15), row(99, 15), row(50, 15)].concat());
        assert!(reader.read(&[6, 0, 0], &mut out).unwrap_err().to_string().contains("row 6"));
        assert!(reader.read(&[1], &mut out).is_err());
        let error = column.reader(&[digest(1), digest(500), digest(501)]).err().unwrap().to_string();
        assert!(error.starts_with("2 of 3 rows of tensor `/encoder/out` are not in the cache; the first is sample 1"));
        assert_eq!(column.missing(&[digest(3), digest(200), digest(200), digest(4), digest(201)]), [1, 4]);
    }
}

/// Any safetensors reader can open a shard, and the checksums are what the format says.
#[test]
fn a_shard_is_what_the_format_says() {
    let sandbox = Sandbox::new(&[70_000], DType::F32);
    fill(&sandbox.column(), 0..9, 9);
    let [path] = &sandbox.shards()[..] else { panic!() };
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let digests = tensors.tensor("digest").unwrap();
    assert_eq!((digests.shape(), &digests.data()[32..64]), (&[9, 32][..], &digest(1).0[..]));
    let values = tensors.tensor("values").unwrap();
    assert_eq!((values.shape(), values.dtype()), (&[9, 70_000][..], safetensors::Dtype::F32));
    let third: &[f32] = &row(3, 70_000);
    assert_eq!(&values.data()[3 * 280_000..4 * 280_000], bytemuck::cast_slice::<f32, u8>(third));
    let sums = tensors.tensor("sums").unwrap();
    let head = bytes.len() - 9 * (32 + 280_000);
    assert!(head.is_multiple_of(4096) && sums.shape() == [3]);
    for (sum, block) in sums.data().chunks(8).zip(bytes[head..].chunks(1 << 20)) {
        assert_eq!(sum, &blake3::hash(block).as_bytes()[..8]);
    }
    let name = blake3::hash(&bytes[..head]).to_hex();
    assert_eq!(path.file_stem().unwrap().to_str().unwrap(), &name[..32]);
}

#[test]
fn the_first_of_two_rows_with_one_digest_wins_whatever_the_order_of_writing() {
    let sandbox = Sandbox::new(&[1], DType::F32);
    let column = sandbox.column();
    for value in [1.0, 2.0, 3.0] {
        let mut writer = column.writer().unwrap();
        writer.push(digest(0), &[value]).unwrap();
        writer.push(digest(0), &[-value]).unwrap();
        writer.finish().unwrap();
    }
    let first = std::fs::read(&sandbox.shards()[0]).unwrap();
    let wins = f32::from_le_bytes(first[first.len() - 8..first.len() - 4].try_into().unwrap());
    let mut out = [0.0];
    sandbox.column().reader(&[digest(0)]).unwrap().read(&[0], &mut out).unwrap();
    assert_eq!(out, [wins]);
    assert!(wins > 0.0);
}

/// The relative errors of rounding normal numbers; for i8 the step is the largest of 768 numbers / 127.
#[test]
fn each_dtype_loses_what_it_must_and_says_so() {
    let bounds =
        [(DType::F32, 0.0, 0.0), (DType::F16, 1e-4, 3e-4), (DType::Bf16, 1e-3, 2.5e-3), (DType::I8, 5e-3, 1e-2)];
    for (dtype, low, high) in bounds {
        let sandbox = Sandbox::new(&[768], dtype);
        let stream = Stream::new(5, 5);
        let values: Vec<f32> = (0..5 * 768).map(|i| stream.normal(i)).collect();
        let mut writer = sandbox.column().writer().unwrap();
        values.chunks(768).enumerate().for_each(|(i, row)| writer.push(digest(i), row).unwrap());
        writer.push(digest(5), &[0.0; 768]).unwrap();
        let error = writer.finish().unwrap().error;
        assert!((low..=high).contains(&error), "{dtype:?} {error}");
        let mut out = vec![1.0; 6 * 768];
        let reader = sandbox.column().reader(&[0, 1, 2, 3, 4, 5].map(digest)).unwrap();
        reader.read(&[0, 1, 2, 3, 4, 5], &mut out).unwrap();
        let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let differences: Vec<f32> = values.iter().zip(&out).map(|(a, b)| a - b).collect();
        let measured = (square(&differences) / square(&values)).sqrt();
        assert!((measured - error).abs() < 1e-9, "{dtype:?} {measured} {error}");
        assert_eq!(out[5 * 768..], [0.0; 768]);
    }
    let sandbox = Sandbox::new(&[2], DType::I8);
    let mut writer = sandbox.column().writer().unwrap();
    assert!(writer.push(digest(0), &[f32::NAN, 1.0]).unwrap_err().to_string().contains("NaN"));
    writer.push(digest(1), &[1e-45, -1e-40]).unwrap();
    writer.push(digest(2), &[3e38, -3e38]).unwrap();
    assert!(writer.finish().unwrap().error < 1e-6);
}

#[test]
fn many_threads_read_at_once() {
    let sandbox = Sandbox::new(&[1000], DType::F16);
    fill(&sandbox.column(), 0..3000, 1000);
    let reader = sandbox.column().reader(&(0..3000).map(digest).collect::<Vec<_>>()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let reader = &reader;
            scope.spawn(move || {
                let mut out = vec![0.0; 2000];
                for i in (thread..2999).step_by(7) {
                    reader.read(&[i, i + 1], &mut out).unwrap();
                    assert_eq!(out[..1000], row(i, 1000));
                }
            });
        }
    });
}
