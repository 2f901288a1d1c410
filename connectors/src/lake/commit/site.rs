//! From a resolved location to where a statement writes.
//!
//! Invariant: local folders are written through the file system, everything else through its store's own client, and
//! what is written there is not counted as read.

use std::sync::Arc;

use headwater_engine::time::SystemClock;

use super::{
    Registrar,
    owner::Owner,
    place::{LocalPlace, ObjectPlace, Place},
    transaction::Site,
};
use crate::lake::{counting::ListingCost, stores};

/// The place that a resolved location is written through.
pub fn place_of(place: &stores::Place) -> Arc<dyn Place> {
    match place.listing {
        ListingCost::Free => Arc::new(LocalPlace),
        ListingCost::PerObject => {
            Arc::new(ObjectPlace::new(place.store.clone(), place.uploads.clone()).shown_after(&place.root))
        }
    }
}

/// The folder of a resolved location as a statement needs it.
pub fn site_of(place: &stores::Place, registrar: Arc<dyn Registrar>) -> Site {
    Site {
        place: place_of(place),
        root: place.path.to_string(),
        registrar,
        clock: Arc::new(SystemClock),
        owner: Owner::this_process(),
    }
}
