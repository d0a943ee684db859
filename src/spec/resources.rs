//! `resources` and `retries`.

use super::keys::{ON_OOM, RESOURCES, RETRIES};
use super::pipeline::{OnOom, Resources, Retries};
use super::reader::{Item, Reader};

impl Reader<'_> {
    /// `resources`
    pub(super) fn resources(&mut self, item: Item<'_>) -> Option<Resources> {
        let fields = self.fields(item, &RESOURCES)?;
        let cpu = fields.get("cpu").and_then(|item| self.cpu(item));
        let memory = fields.get("memory").and_then(|item| self.size(item));
        let gpu = self.whole(&fields, "gpu").and_then(|gpu| u32::try_from(gpu).ok()).unwrap_or(0);
        let limit = fields.get("limit").and_then(|item| self.boolean(item)).unwrap_or(true);
        Some(Resources { cpu, memory, gpu, limit })
    }

    /// `retries`: a number, or a map.
    pub(super) fn retries(&mut self, item: Item<'_>) -> Option<Retries> {
        let mut retries = Retries::default();
        let count = |max: u64| u32::try_from(max).unwrap_or(u32::MAX);
        if !item.is_map() {
            retries.max = count(self.whole_within(item, RETRIES.bounds("max"))?);
            return Some(retries);
        }
        let fields = self.fields(item, &RETRIES)?;
        if let Some(max) = self.whole(&fields, "max") {
            retries.max = count(max);
        }
        if let Some(backoff) = fields.get("backoff").and_then(|item| self.duration(item)) {
            retries.backoff = backoff;
        }
        if let Some(fields) = fields.get("on_oom").and_then(|item| self.fields(item, &ON_OOM)) {
            let factor = fields.get("memory").and_then(|item| self.factor(item));
            let max = fields.get("max").and_then(|item| self.size(item));
            retries.on_oom = factor.map(|factor| OnOom { factor, max });
        }
        Some(retries)
    }
}
