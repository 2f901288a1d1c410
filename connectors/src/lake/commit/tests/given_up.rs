//! Writers that were given up: what they still do harms nobody, and what they began is ended by who comes next.

use super::*;
use crate::lake::commit::{
    place::{Spot, StagedWriter},
    record::{self, OpenUpload},
};

fn spot(root: &str) -> Spot {
    let at = |name: &str| format!("{root}/{name}");
    Spot { staging: at("_headwater/staging/1"), upload: at("_headwater/uploads/1"), target: at("1.json") }
}

async fn write(writer: &mut Box<dyn StagedWriter>, text: &'static str) -> Result<()> {
    writer.write(Bytes::from_static(text.as_bytes())).await
}

#[tokio::test]
async fn a_writer_that_was_given_up_changes_nothing_of_the_next_ones_file() -> Result<()> {
    let (_folder, root) = on_disk();
    let mut first = LocalPlace.stage(spot(&root)).await?;
    write(&mut first, "given up").await?;
    let mut second = LocalPlace.stage(spot(&root)).await?;
    write(&mut second, "the rows").await?;
    let file = second.finish().await?;
    LocalPlace.publish(&file).await?;
    write(&mut first, " and late").await?;
    first.finish().await?;
    assert_eq!(LocalPlace.read(&file.target).await?.as_deref(), Some(&b"the rows"[..]));
    Ok(())
}

#[tokio::test]
async fn an_upload_that_was_given_up_is_aborted_by_the_next() -> Result<()> {
    let place = in_memory(InMemory::new());
    let mut first = place.stage(spot("t")).await?;
    write(&mut first, "0123456789012345678901234567890123456789").await?;
    let note = place.read(&spot("t").upload).await?.unwrap();
    let noted: OpenUpload = record::decode("note", &note)?;
    let mut second = place.stage(spot("t")).await?;
    write(&mut second, "01234567890123456789").await?;
    assert!(write(&mut first, "0123456789012345").await.is_err(), "upload {} goes on", noted.id);
    let file = second.finish().await?;
    place.publish(&file).await?;
    assert_eq!(place.read(&file.target).await?.as_deref(), Some(&b"01234567890123456789"[..]));
    Ok(())
}
