//! The partitions a table has, as a writer needs them: registered, projected, or found in its folders.
//!
//! Invariant: rows of a partition go where the table's readers look for them, in statements and in jobs alike; what
//! cannot be read from there is refused.

use arrow::datatypes::DataType;
use headwater_engine::{
    catalog::{Catalog, Column, PartitionDiscovery, Table},
    error::{Error, Result},
    time::{Clock, SystemClock},
};

use super::partition::{Found, Known, Layout, Spellings, spell_typed};
use crate::lake::{
    hive_type,
    layout::Key,
    listing::find_partitions,
    projection::{Projection, at_millis},
    pruning::FileFilter,
    stores::{Place, Stores},
};

/// What becomes of the files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They stay, so that only the folders of new files matter.
    Adds,
    /// Those of some partitions go, from whatever folders they are in.
    Replaces,
}

/// A table whose files are to be written.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Its entry.
    pub table: &'a Table,
    /// Where its location is.
    pub place: &'a Place,
    /// The stores its partitions may be in.
    pub stores: &'a Stores,
    /// Where its partitions are registered, if they are.
    pub catalog: Option<&'a dyn Catalog>,
}

impl Written<'_> {
    /// Its keys and the folders of its partitions.
    pub async fn layout(&self, change: Change) -> Result<Layout> {
        let mut layout = Layout::flat(self.place.path.to_string());
        layout.keys = self.table.partition_keys.iter().map(|key| key.name.clone()).collect();
        if layout.keys.is_empty() {
            return Ok(layout);
        }
        let keys = keys(self.table)?;
        let types: Vec<DataType> = keys.iter().map(|key| key.data_type.clone()).collect();
        if let Some(projection) = projection_of(self.table)? {
            self.know_projected(&projection, &mut layout).await?;
        } else if self.table.discovery == PartitionDiscovery::Registered {
            layout.know(&types, self.registered().await?)?;
        } else if change == Change::Replaces {
            let found = find_partitions(self.place, &keys).await?;
            let found = found.into_iter().map(|(values, place)| {
                let folder = Some(place.path.to_string());
                Found { values, folder, columns: None }
            });
            layout.know(&types, found.collect())?;
        }
        Ok(layout)
    }

    async fn registered(&self) -> Result<Vec<Found>> {
        let Some(catalog) = self.catalog else { return Ok(Vec::new()) };
        let registered = match catalog.partitions(&self.table.name).await {
            // The table is about to be created.
            Err(error) if error.code().0 == "TABLE_NOT_FOUND" => Vec::new(),
            registered => registered?,
        };
        let mut known = Vec::with_capacity(registered.len());
        for partition in registered {
            let folder = match &partition.location {
                None => None,
                Some(location) => Some(self.folder_in(location).await?),
            };
            known.push(Found { values: partition.values, folder, columns: partition.columns });
        }
        Ok(known)
    }

    /// The folders where readers of a projected table look; rows of other partitions would not be found again.
    async fn know_projected(&self, projection: &Projection, layout: &mut Layout) -> Result<()> {
        let table = self.table;
        if !projection.has_template() {
            layout.projected = projection.values().map(Spellings::new).collect::<Result<_>>()?;
            return Ok(());
        }
        if projection.has_injected() {
            let message = format!("\"{}\" has an injected key and a location template", table.name);
            return Err(Error::not_supported(message)
                .with_hint("write to a table over the same folder with partitions that are registered"));
        }
        for values in projection.partitions(&FileFilter::none(Vec::new()))?.partitions {
            let folder = self.folder_in(&projection.location(&table.location, &values)).await?;
            let spelled = values.iter().map(|value| spell_typed(std::slice::from_ref(value)));
            let spelled = spelled.collect::<Result<Vec<_>>>()?.concat();
            layout.know_folder(spelled, Known { folder, columns: None });
        }
        layout.only_known = true;
        Ok(())
    }

    async fn folder_in(&self, location: &str) -> Result<String> {
        let found = self.stores.resolve(location, &self.table.properties).await?;
        if found.root != self.place.root {
            let message = format!("a partition of \"{}\" lies in another store: {location}", self.table.name);
            return Err(Error::not_supported(message).with_hint(format!("its other files are in {}", self.place.root)));
        }
        Ok(found.path.to_string())
    }
}

/// A table's partition keys with their types.
pub fn keys(table: &Table) -> Result<Vec<Key>> {
    let key = |key: &Column| Ok(Key { name: key.name.clone(), data_type: hive_type::parse(&key.type_text)? });
    table.partition_keys.iter().map(key).collect()
}

/// How a table projects its partitions now, if it does.
pub fn projection_of(table: &Table) -> Result<Option<Projection>> {
    Projection::of(table, &keys(table)?, at_millis(SystemClock.now().0))
}
