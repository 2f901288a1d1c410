//! Every compression, and what is told by name and what by content.

use std::io::Write;

use super::*;

fn sample() -> Vec<u8> {
    (0..20_000).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn hadoop(data: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for block in data.chunks(50_000) {
        out.extend((block.len() as u32).to_be_bytes());
        for part in block.chunks(20_000) {
            let compressed = compress(part);
            out.extend((compressed.len() as u32).to_be_bytes());
            out.extend(compressed);
        }
    }
    out
}

fn snappy(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

fn all(data: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut xerial = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in data.chunks(32_000) {
        let compressed = snappy(block);
        xerial.extend((compressed.len() as u32).to_be_bytes());
        xerial.extend(compressed);
    }
    let mut framed = snap::write::FrameEncoder::new(Vec::new());
    framed.write_all(data).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(data).unwrap();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(data).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(data).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(data).unwrap();
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(data).unwrap();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("a.json", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(data).unwrap();
    vec![
        ("a.json.gz", gzip(data)),
        ("a.json.zst", zstd::encode_all(data, 1).unwrap()),
        ("a.json.bz2", bz2.finish().unwrap()),
        ("a.json.xz", xz.finish().unwrap()),
        ("framed.snappy", framed.into_inner().unwrap()),
        ("xerial.snappy", xerial),
        ("hadoop.snappy", hadoop(data, snappy)),
        ("a.lz4", lz4.finish().unwrap()),
        ("hadoop.lz4", hadoop(data, lz4_flex::block::compress)),
        ("zlib.deflate", zlib.finish().unwrap()),
        ("raw.deflate", deflate.finish().unwrap()),
        ("a.zip", zip.finish().unwrap().into_inner()),
    ]
}

#[test]
fn every_compression_inflates_to_what_was_compressed() {
    let data = sample();
    for (name, compressed) in all(&data) {
        let compression = Compression::of(name, &compressed).unwrap_or_else(|| panic!("{name} is not recognised"));
        let mut inflated = Vec::new();
        compression.reader(compressed.as_slice()).unwrap().read_to_end(&mut inflated).unwrap();
        assert!(inflated == data, "{name}");
    }
}

#[test]
fn a_file_cut_short_is_an_error_and_never_a_part() {
    let data = sample();
    for (name, compressed) in all(&data) {
        let cut = &compressed[..compressed.len() * 2 / 3];
        let compression = Compression::of(name, cut).unwrap();
        let read = compression.reader(cut).and_then(|mut reader| reader.read_to_end(&mut Vec::new()));
        assert!(read.is_err(), "{name}");
    }
    assert_eq!(inflate_whole(&gzip(&data)[..1000], BytesMut::new()), None);
}

#[test]
fn content_decides_over_the_name() {
    assert_eq!(Compression::of("a.json", &gzip(b"{}")), Some(Compression::Gzip));
    assert_eq!(Compression::of("a.json.gz", b"{\"a\":1}"), None);
    assert_eq!(Compression::of("a.snappy", b"{\"a\":1}"), None);
    assert_eq!(Compression::of("a.json", b"BZh is how this text starts"), None);
}

#[test]
fn gzip_is_inflated_whole_or_left_to_the_stream() {
    let data = sample();
    assert_eq!(inflate_whole(&gzip(&data), BytesMut::new()).as_deref(), Some(data.as_slice()));
    let twice = [gzip(&data), gzip(&data)].concat();
    assert_eq!(inflate_whole(&twice, BytesMut::new()), None);
    let mut inflated = Vec::new();
    Compression::Gzip.reader(twice.as_slice()).unwrap().read_to_end(&mut inflated).unwrap();
    assert_eq!(inflated.len(), 2 * data.len());
}

/// Read in chunks that end where a member does, too.
fn in_chunks(compression: Compression, compressed: &[u8]) -> io::Result<usize> {
    let mut reader = compression.reader(compressed)?;
    let mut total = 0;
    loop {
        match next_chunk(&mut reader)?.len() {
            0 => return Ok(total),
            length => total += length,
        }
    }
}

#[test]
fn members_one_after_another_are_all_read() {
    let data = sample().into_iter().cycle().take(INFLATED_CHUNK).collect::<Vec<u8>>();
    for (name, one) in all(&data) {
        let compression = Compression::of(name, &one).unwrap();
        if matches!(compression, Compression::Zip | Compression::SnappyXerial) {
            continue;
        }
        let three = [one.as_slice(), &one, &one].concat();
        assert_eq!(in_chunks(compression, &three).unwrap(), 3 * data.len(), "{name}");
        let cut = &three[..three.len() - one.len() / 3];
        assert!(in_chunks(compression, cut).is_err(), "{name}");
    }
}

#[test]
fn bytes_after_the_end_are_an_error() {
    let data = sample();
    for (name, mut compressed) in all(&data) {
        let compression = Compression::of(name, &compressed).unwrap();
        if compression == Compression::Zip {
            continue;
        }
        compressed.extend_from_slice(b"\xffno more of this kind of data");
        assert!(in_chunks(compression, &compressed).is_err(), "{name}");
    }
}

#[test]
fn lz4_without_its_end_mark_is_cut() {
    let data = sample();
    let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
    frame.write_all(&data).unwrap();
    let whole = frame.finish().unwrap();
    assert!(in_chunks(Compression::Lz4, &whole[..whole.len() - 4]).is_err());
}

/// Whoever fills buffers asks once more after the last bytes.
#[test]
fn the_end_is_said_as_often_as_it_is_asked_for() {
    let data = sample();
    for (name, bytes) in all(&data) {
        let compression = Compression::of(name, &bytes).unwrap();
        let mut reader = compression.reader(&bytes[..]).unwrap();
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found.len(), data.len(), "{name}");
        for _ in 0..3 {
            assert_eq!(reader.read(&mut [0; 16]).unwrap(), 0, "{name}");
        }
    }
}
