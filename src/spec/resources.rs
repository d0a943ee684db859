//! `resources`, `retries`, `container` and `build`.

use super::keys::{BUILD, CONTAINER, ON_OOM, RESOURCES, RETRIES};
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

    /// `container`: checked, and without effect on local.
    pub(super) fn container(&mut self, item: Item<'_>) {
        let Some(fields) = self.fields(item, &CONTAINER) else { return };
        for key in ["user", "root", "network"] {
            self.choice(&fields, key);
        }
        fields.get("capabilities").map(|item| self.texts(item));
    }

    /// `build`: a folder, or a map. Checked; not available yet.
    pub(super) fn build(&mut self, item: Item<'_>) {
        if !item.is_map() {
            self.path(item);
            return;
        }
        let Some(fields) = self.fields(item, &BUILD) else { return };
        fields.get("context").map(|item| self.path(item));
        fields.get("dockerfile").map(|item| self.path_below(item));
        for item in fields.get("args").and_then(|item| self.entries(item)).unwrap_or_default() {
            self.variable(item);
            self.single(item);
        }
    }
}
