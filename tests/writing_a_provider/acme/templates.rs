//! Templates, which machines are started from.

use std::time::Duration;

use jiff::Timestamp;

use super::{Acme, Answer, Page, Tags, has_tag, is_over, page, refused};

const BAKE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) base: Option<String>,
    pub(crate) tags: Tags,
    pub(crate) begun: Timestamp,
    pub(crate) is_ready: bool,
    request: String,
}

impl Acme {
    /// Begins to bake a template, unless this very request did so already.
    pub(crate) async fn bake(&self, request: &str, name: &str, base: Option<&str>, tags: Tags) -> Answer<()> {
        self.request("Bake", |state, begun| {
            match state.templates.get(name) {
                Some(there) if there.request == request => return Ok(()),
                Some(_) => return refused("AlreadyExists", format!("template {name} exists")),
                None => {}
            }
            let (name, base) = (name.to_owned(), base.map(str::to_owned));
            let template = Template { name, base, tags, begun, is_ready: false, request: request.to_owned() };
            state.templates.insert(template.name.clone(), template);
            Ok(())
        })
        .await
    }

    pub(crate) async fn template(&self, name: &str) -> Answer<Template> {
        self.request("GetTemplate", |state, now| match state.templates.get(name) {
            Some(template) => Ok(template.at(now)),
            None => refused("NotThere", format!("no template {name}")),
        })
        .await
    }

    pub(crate) async fn templates(&self, tag: (&str, &str), from: Option<String>) -> Answer<Page<Template>> {
        self.request("ListTemplates", |state, now| {
            let found = state.templates.values().filter(|template| has_tag(&template.tags, tag));
            page(found.map(|template| template.at(now)), from.as_deref())
        })
        .await
    }

    pub(crate) async fn delete_template(&self, name: &str) -> Answer<()> {
        self.request("DeleteTemplate", |state, _| {
            if state.machines.iter().any(|machine| machine.template == name) {
                return refused("InUse", format!("a machine was started from template {name}"));
            }
            if state.templates.values().any(|other| other.base.as_deref() == Some(name)) {
                return refused("InUse", format!("another template is made of template {name}"));
            }
            match state.templates.remove(name) {
                Some(_) => Ok(()),
                None => refused("NotThere", format!("no template {name}")),
            }
        })
        .await
    }
}

impl Template {
    fn at(&self, now: Timestamp) -> Self {
        Self { is_ready: is_over(self.begun, BAKE, now), ..self.clone() }
    }
}
