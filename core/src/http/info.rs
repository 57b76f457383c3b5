//! `GET /v1/snapshot`: what is served, and what this bundle could serve.

use alloc::vec::Vec;

use super::{HttpConfig, Served};
use crate::manifest::EXPRESSION_SET_MAX;
use crate::wire::encoder::Encoder;
use crate::{HEAD_VERSION, MANIFEST_VERSION, MediaType, PAGE_VERSION, RFC3339_BYTES_MAX, Timestamp};

pub(super) fn write_info(config: &HttpConfig, served: &Served<'_>, media_type: MediaType, out: &mut Vec<u8>) {
    let snapshot = served.snapshot;
    let manifest = snapshot.manifest();
    let mut encoder = Encoder { media_type, out };
    encoder.begin_map(12);
    encoder.key(0, "snapshot");
    encoder.text(&alloc::format!("{}", snapshot.id()));
    encoder.key(1, "epoch");
    encoder.int(i64::try_from(snapshot.epoch()).unwrap_or(i64::MAX));
    encoder.key(2, "issued_at");
    instant(snapshot.issued_at(), &mut encoder);
    encoder.key(3, "age_seconds");
    encoder.int(served.now.since(snapshot.issued_at()).seconds().max(0));
    encoder.key(4, "project");
    encoder.text(&manifest.project);
    encoder.key(5, "views");
    encoder.begin_list(manifest.tables.iter().map(|table| table.schema.views.len()).sum());
    let views = manifest.tables.iter().flat_map(|table| table.schema.views.iter().zip(&table.watermarks));
    for (index, (view, watermark)) in views.enumerate() {
        encoder.separate(index);
        encoder.begin_map(2);
        encoder.key(0, "name");
        encoder.text(&view.name);
        encoder.key(1, "newest_event");
        if *watermark == Timestamp::MIN {
            encoder.null()
        } else {
            instant(*watermark, &mut encoder)
        }
        encoder.end_map();
    }
    encoder.end_list();
    encoder.key(6, "services");
    encoder.begin_list(manifest.services.len());
    for (index, service) in manifest.services.iter().enumerate() {
        encoder.separate(index);
        encoder.text(&service.name);
    }
    encoder.end_list();
    // What a publisher asks before it publishes.
    encoder.key(7, "formats");
    encoder.begin_map(3);
    for (index, (name, version)) in
        [("head", HEAD_VERSION), ("manifest", MANIFEST_VERSION), ("page", PAGE_VERSION)].iter().enumerate()
    {
        encoder.key(index, name);
        encoder.begin_list(1);
        encoder.int(i64::from(*version));
        encoder.end_list();
    }
    encoder.end_map();
    encoder.key(8, "expression_sets");
    // 0 is a snapshot without expressions, which every bundle can serve.
    let expression_sets: &[u16] = if cfg!(feature = "expressions") { &[EXPRESSION_SET_MAX] } else { &[] };
    encoder.begin_list(expression_sets.len());
    for set in expression_sets {
        encoder.int(i64::from(*set));
    }
    encoder.end_list();
    encoder.key(9, "transforms");
    #[cfg(feature = "expressions")]
    {
        let carried = served.transforms.carried();
        encoder.begin_list(carried.len());
        for (index, id) in carried.iter().enumerate() {
            encoder.separate(index);
            encoder.text(&alloc::format!("{id}"));
        }
    }
    #[cfg(not(feature = "expressions"))]
    encoder.begin_list(0);
    encoder.end_list();
    encoder.key(10, "limits");
    encoder.begin_map(4);
    let limits = &config.limits;
    let bounds = [
        ("body_bytes", limits.request_bytes_max),
        ("entities", limits.entities_max),
        ("values", limits.values_max),
        ("pages", limits.pages_max),
    ];
    for (index, (name, bound)) in bounds.iter().enumerate() {
        encoder.key(index, name);
        encoder.int(i64::try_from(*bound).unwrap_or(i64::MAX));
    }
    encoder.end_map();
    // What a publisher has to know before it publishes what nobody here would accept.
    encoder.key(11, "trust");
    encoder.begin_map(3);
    encoder.key(0, "required");
    encoder.bool(config.trust.is_required());
    encoder.key(1, "keys");
    encoder.begin_list(config.trust.keys().len());
    for (index, key) in config.trust.keys().iter().enumerate() {
        encoder.separate(index);
        encoder.text(&alloc::format!("{}", key.id()));
    }
    encoder.end_list();
    encoder.key(2, "signed");
    encoder.bool(served.signed);
    encoder.end_map();
    encoder.end_map();
}

fn instant(at: Timestamp, encoder: &mut Encoder<'_>) {
    encoder.word(at.rfc3339(&mut [0; RFC3339_BYTES_MAX]));
}
