//! The keys `image` of YAML, whichever program it is for, and images elsewhere in a compose file:
//! volumes, and models, which are artifacts in a registry too.
//!
//! Events are read one by one, so that no alias is ever expanded. A key `status` has a report of
//! Kubernetes, which is left out; services that compose builds are told.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::listed_image::{
    DEPTH_MAX, FilePlace, IMAGES_MAX, ImageFileError, ImageTextFault, ListedImage, TEXT_BYTES_MAX,
};
use super::variables::with_defaults;

/// The images of all documents of a text.
pub(super) fn yaml_images(text: &str) -> Result<Vec<ListedImage>, ImageFileError> {
    let mut parser = Parser::new_from_str(text);
    let mut reader = YamlImages::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| ImageFileError::Syntax {
            place: place_of(*error.marker()),
            why: error.info().to_owned(),
            is_template: text.contains("{{"),
        })?;
        reader.take(event, place_of(span.start))?;
    }
    Ok(reader.images)
}

fn place_of(marker: Marker) -> FilePlace {
    FilePlace { line: marker.line(), column: marker.col() + 1 }
}

#[derive(Default)]
struct YamlImages {
    /// The mappings and sequences that are open.
    nodes: Vec<YamlNode>,
    /// Short texts with an anchor, by its number.
    anchored: HashMap<usize, String>,
    images: Vec<ListedImage>,
    seen: HashSet<String>,
    /// The models of a document, which are images if it has services.
    models: Vec<ListedImage>,
    has_services: bool,
}

/// A mapping or a sequence that is open.
struct YamlNode {
    role: NodeRole,
    next: NextPart,
    /// The text at its key `image`.
    image: Option<ListedImage>,
    /// The place of what it has at a key `build`.
    built: Option<FilePlace>,
    /// Its texts, if it stands at a key `image` itself, or is a volume.
    parts: HashMap<&'static str, (String, FilePlace)>,
}

/// The meaning of a mapping or a sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NodeRole {
    /// A document.
    Document,
    /// The services of compose, and one of them.
    Services,
    Service,
    /// The volumes of a service of compose, and one of them.
    Volumes,
    Volume,
    /// The models of compose, and one of them.
    Models,
    Model,
    /// A list of containers of Kubernetes, and one of them.
    Containers,
    Container,
    /// A mapping at a key `image`: values of a chart, or the source of a volume.
    Image,
    /// A report.
    Ignored,
    Other,
}

/// The part of a node that comes next.
enum NextPart {
    Item,
    Key,
    /// The value of this key.
    Value(String),
}

/// A text, or something in its place.
enum YamlText<'t> {
    Text(&'t str),
    /// A number or a truth value, as it is written.
    Plain(&'t str),
    Null,
    /// An alias of a mapping, a sequence, or a long text.
    Unknown,
}

impl YamlImages {
    fn take(&mut self, event: Event<'_>, place: FilePlace) -> Result<(), ImageFileError> {
        match event {
            Event::MappingStart(..) => self.open(NextPart::Key, place),
            Event::SequenceStart(..) => self.open(NextPart::Item, place),
            Event::MappingEnd | Event::SequenceEnd => self.close(),
            Event::Scalar(text, style, anchor, tag) => {
                if anchor > 0 && text.len() <= TEXT_BYTES_MAX {
                    self.anchored.insert(anchor, text.clone().into_owned());
                }
                self.scalar(&text_of(&text, style, tag.as_deref()), place);
                Ok(())
            }
            Event::Alias(anchor) => {
                let text = self.anchored.get(&anchor).cloned();
                let text = text.as_deref().map_or(YamlText::Unknown, YamlText::Text);
                self.scalar(&text, place);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, next: NextPart, place: FilePlace) -> Result<(), ImageFileError> {
        if self.nodes.len() == DEPTH_MAX {
            return Err(ImageFileError::TooDeep(place));
        }
        let role = match self.nodes.last_mut() {
            Some(parent) => parent.role_of_child(place),
            None => NodeRole::Document,
        };
        self.has_services |= role == NodeRole::Services;
        let parts = HashMap::new();
        self.nodes.push(YamlNode { role, next, image: None, built: None, parts });
        Ok(())
    }

    fn close(&mut self) -> Result<(), ImageFileError> {
        let Some(node) = self.nodes.pop() else { return Ok(()) };
        if let Some(parent) = self.nodes.last_mut() {
            parent.advance("");
        }
        let role = node.role;
        let image = node.into_image();
        if role == NodeRole::Model {
            self.models.extend(image);
            return Ok(());
        }
        let mut found = Vec::from_iter(image);
        if role == NodeRole::Document {
            let models = std::mem::take(&mut self.models);
            found.extend(models.into_iter().filter(|_| self.has_services));
            self.has_services = false;
        }
        found.into_iter().try_for_each(|image| self.add(image))
    }

    fn add(&mut self, image: ListedImage) -> Result<(), ImageFileError> {
        if let Ok(name) = &image.name
            && !self.seen.insert(name.clone())
        {
            return Ok(());
        }
        if self.images.len() == IMAGES_MAX {
            return Err(ImageFileError::TooMany(image.place));
        }
        self.images.push(image);
        Ok(())
    }

    fn scalar(&mut self, text: &YamlText<'_>, place: FilePlace) {
        let Some(node) = self.nodes.last_mut() else { return };
        if let NextPart::Value(key) = &node.next {
            let key = key.clone();
            node.note(&key, text, place);
        }
        node.advance(match text {
            YamlText::Text(text) | YamlText::Plain(text) => text,
            YamlText::Null | YamlText::Unknown => "",
        });
    }
}

impl YamlNode {
    /// The meaning of a mapping or a sequence that is the next part.
    fn role_of_child(&mut self, place: FilePlace) -> NodeRole {
        let key = if let NextPart::Value(key) = &self.next { key.as_str() } else { "" };
        if key == "build" {
            self.built = Some(place);
        }
        match (self.role, key) {
            (NodeRole::Services, _) => NodeRole::Service,
            (NodeRole::Models, _) => NodeRole::Model,
            (NodeRole::Service, "volumes") => NodeRole::Volumes,
            (NodeRole::Volumes, _) => NodeRole::Volume,
            (NodeRole::Ignored, _) | (_, "status") => NodeRole::Ignored,
            (NodeRole::Document, "services") => NodeRole::Services,
            (NodeRole::Document, "models") => NodeRole::Models,
            (NodeRole::Containers, _) => NodeRole::Container,
            (_, "containers" | "initContainers" | "ephemeralContainers") => NodeRole::Containers,
            (_, "image") => NodeRole::Image,
            _ => NodeRole::Other,
        }
    }

    /// The part has ended that was next. `text` is it, if it is a text.
    fn advance(&mut self, text: &str) {
        self.next = match self.next {
            NextPart::Item => NextPart::Item,
            NextPart::Key => NextPart::Value(text.to_owned()),
            NextPart::Value(_) => NextPart::Key,
        };
    }

    /// Takes the value of a key.
    fn note(&mut self, key: &str, text: &YamlText<'_>, place: FilePlace) {
        if key == "build" {
            self.built = Some(place);
        }
        let image_key = if self.role == NodeRole::Model { "model" } else { "image" };
        if matches!(self.role, NodeRole::Image | NodeRole::Volume) {
            if let (Some(part), YamlText::Text(text) | YamlText::Plain(text)) =
                (self.role.part(key), text)
                && !text.is_empty()
            {
                self.parts.insert(part, ((*text).to_owned(), place));
            }
        } else if key == image_key {
            let name = match text {
                YamlText::Text("") | YamlText::Plain(_) | YamlText::Null => return,
                YamlText::Text(text) => name_of(text),
                YamlText::Unknown => Err(ImageTextFault::AliasOfMore),
            };
            let is_required =
                matches!(self.role, NodeRole::Service | NodeRole::Container | NodeRole::Model);
            self.image = Some(ListedImage { name, place, is_required });
        }
    }

    fn into_image(self) -> Option<ListedImage> {
        let is_required = true;
        match (self.role, self.built) {
            (NodeRole::Ignored, _) => None,
            (NodeRole::Service, Some(built)) => {
                let place = self.image.map_or(built, |image| image.place);
                Some(ListedImage { name: Err(ImageTextFault::Built), place, is_required: false })
            }
            (NodeRole::Volume, _) => {
                let is_image = self.parts.get("type").is_some_and(|(text, _)| text == "image");
                let (text, place) = self.parts.get("source").filter(|_| is_image)?;
                Some(ListedImage { name: name_of(text), place: *place, is_required })
            }
            (NodeRole::Image, _) => self.image_of_parts(),
            _ => self.image,
        }
    }

    fn image_of_parts(&self) -> Option<ListedImage> {
        let part = |key| self.parts.get(key).map(|(text, _)| text.as_str());
        let found = self.parts.get("reference").or_else(|| self.parts.get("repository"));
        let (text, place) = found?;
        let name = if part("reference").is_some() {
            name_of(text)
        } else {
            let parts = [part("registry"), Some(text), part("tag"), part("digest")];
            name_of_values(parts).and_then(|name| name_of(&name))
        };
        Some(ListedImage { name, place: *place, is_required: false })
    }
}

impl NodeRole {
    /// The part of an image, or of a volume, that a key of its mapping has.
    fn part(self, key: &str) -> Option<&'static str> {
        let parts: &[&str] = match self {
            Self::Volume => &["type", "source"],
            _ => &["reference", "registry", "repository", "tag", "digest"],
        };
        parts.iter().copied().find(|part| *part == key)
    }
}

fn name_of(text: &str) -> Result<String, ImageTextFault> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ImageTextFault::TooLong);
    }
    with_defaults(text)
}

/// The name of which the values of a chart have the registry, the repository, the tag and the
/// digest.
fn name_of_values(parts: [Option<&str>; 4]) -> Result<String, ImageTextFault> {
    let [registry, repository, tag, digest] = parts;
    let registry = registry.map(|registry| format!("{registry}/")).unwrap_or_default();
    let name = format!("{registry}{}", repository.unwrap_or_default());
    if tag.is_none() && digest.is_none() {
        return Err(ImageTextFault::NoTag(name));
    }
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    Ok(format!("{name}{tag}{digest}"))
}

/// The meaning of a scalar, as far as it matters here.
fn text_of<'t>(text: &'t str, style: ScalarStyle, tag: Option<&Tag>) -> YamlText<'t> {
    if tag.is_some_and(|tag| tag.suffix != "str") {
        return YamlText::Null;
    }
    if style != ScalarStyle::Plain || tag.is_some() {
        return YamlText::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => YamlText::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => YamlText::Plain(text),
        number if number.parse::<f64>().is_ok() => YamlText::Plain(number),
        text => YamlText::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Each image as `line:column name`, with `?` where it needs not be one.
    fn images(text: &str) -> Vec<String> {
        let images = yaml_images(text).unwrap();
        let shown = images.into_iter().map(|image| {
            let mark = if image.is_required { "" } else { "?" };
            let name = image.name.unwrap_or_else(|fault| format!("({fault})"));
            format!("{} {mark}{name}", image.place)
        });
        shown.collect()
    }

    #[test]
    fn a_compose_file_has_the_images_of_services_that_it_does_not_build() {
        let compose = r#"name: shop
x-defaults: &defaults
  restart: unless-stopped
x-base: &base alpine:3.20
services:
  web:
    <<: *defaults
    image: "nginx:${NGINX:-1.27}-alpine"
    ports: ["80:80"]
  db: { image: postgres:16, volumes: [data:/var/lib] }
  api:
    image: shop/api:dev
    build:
      context: .
    volumes:
    - ./src:/src
    - {type: image, source: "ghcr.io/o/data:${DATA-1}", target: /data}
    - type: volume
      source: data
      target: /big
    models: [llm]
  worker:
    build: ./worker
    image: shop/worker:dev
  tool: {image: *base}
  second:
    image: postgres:16
  unset:
    image: ghcr.io/o/a:${VERSION:?say which}
  status:
    image: busybox
    environment:
      image: true
  database:
    provider:
      type: awesomecloud
      options: {type: mysql, image: 9}
models:
  llm:
    model: ai/smollm2:360M
volumes:
  data: {}
"#;
        assert_eq!(
            images(compose),
            [
                "8:12 nginx:1.27-alpine",
                "10:16 postgres:16",
                "17:29 ghcr.io/o/data:1",
                "12:12 ?(the service is built, not pulled)",
                "24:12 ?(the service is built, not pulled)",
                "25:17 alpine:3.20",
                "29:12 (the variable `VERSION` has no default)",
                "31:12 busybox",
                "40:12 ai/smollm2:360M",
            ]
        );
    }

    #[test]
    fn models_are_images_of_compose_alone() {
        let models = "models: {a: {model: gpt:4}, status: {model: ai/b}}\n";
        assert_eq!(images(models), Vec::<String>::new());
        let services = "services: {web: {build: .}}\n";
        let built = "1:25 ?(the service is built, not pulled)";
        assert_eq!(images(services), [built]);
        let both = format!("{models}{services}---\n{models}");
        let built = built.replace("1:", "2:");
        assert_eq!(images(&both), [built.as_str(), "1:21 gpt:4", "1:45 ai/b"]);
    }

    #[test]
    fn manifests_of_kubernetes_have_images_in_containers_volumes_and_resources_of_others() {
        let manifests = r#"---
# Source: shop/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, annotations: {image: "A picture.png"}}
spec:
  template:
    spec:
      initContainers:
      - name: init
        image: busybox:1.36
      containers:
      - image: ghcr.io/o/shop@sha256:ab
        name: shop
        volumeMounts:
        - {name: models, mountPath: /models}
      - name: side
        image:
      ephemeralContainers: [{name: debug, image: nicolaka/netshoot}]
      volumes:
      - name: models
        image:
          reference: quay.io/o/models:v1
          pullPolicy: IfNotPresent
status:
  containerStatuses:
  - image: sha256:0123
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec:
  image: quay.io/prometheus/prometheus:v3.0.0
  version: v3
--- # the definition of a resource
kind: CustomResourceDefinition
spec:
  schema:
    properties:
      image:
        type: string
        description: The image
      required: [image]
...
"#;
        assert_eq!(
            images(manifests),
            [
                "5:45 ?A picture.png",
                "11:16 busybox:1.36",
                "13:16 ghcr.io/o/shop@sha256:ab",
                "19:50 nicolaka/netshoot",
                "23:22 ?quay.io/o/models:v1",
                "32:10 ?quay.io/prometheus/prometheus:v3.0.0",
            ]
        );
    }

    #[test]
    fn the_lists_of_kubectl_are_json() {
        let list = r#"{
    "apiVersion": "v1",
    "items": [
        {
            "kind": "Pod",
            "spec": {"containers": [{"image": "registry.k8s.io/pause:3.10", "name": "a"}]},
            "status": {"containerStatuses": [{"image": "sha256:0123"}]}
        }
    ],
    "kind": "List"
}"#;
        assert_eq!(images(list), ["6:47 registry.k8s.io/pause:3.10"]);
    }

    #[test]
    fn the_values_of_a_chart_have_images_in_parts() {
        let values = r#"image:
  registry: quay.io
  repository: o/app
  tag: 1.20
sidecar:
  image: {repository: o/side, digest: "sha256:ab", tag: ""}
web:
  image:
    repository: o/web
    tag: ""
job:
  image: o/job:v1
  enabled: false
"#;
        assert_eq!(
            images(values),
            [
                "3:15 ?quay.io/o/app:1.20",
                "6:23 ?o/side@sha256:ab",
                "9:17 ?(`o/web` has neither a tag nor a digest)",
                "12:10 ?o/job:v1",
            ]
        );
    }

    /// An alias that was followed would make a terabyte of these lines.
    #[test]
    fn aliases_cost_what_they_are_long() {
        let mut bomb = "a0: &a0 {image: x:1}\n".to_owned();
        for level in 1..100 {
            let before = format!("*a{}", level - 1);
            let all = [before.as_str(); 9].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{all}]").unwrap();
        }
        bomb.push_str("services: {s: {image: *a99}}\n");
        assert_eq!(images(&bomb), ["1:17 ?x:1", "101:23 (the alias is not one of a text)"]);
    }

    #[test]
    fn odd_yaml_is_read_or_refused_but_never_a_panic() {
        for (text, want) in [
            ("? {image: a}\n: {image: b}\n", vec!["1:11 ?a", "2:11 ?b"]),
            ("? [a, b]\n: c\nimage: d\n", vec!["3:8 ?d"]),
            ("- image: a\n- - image: b\n", vec!["1:10 ?a", "2:12 ?b"]),
            ("image: !!str 12\n", vec!["1:8 ?12"]),
            ("image: !reset null\nservices: {a: {image: !reset null}}\n", vec![]),
            ("image: >-\n  a:1\n", vec!["2:3 ?a:1"]),
            ("plain\n", vec![]),
            ("{image: a}\n---\nimage: a\n", vec!["1:9 ?a"]),
        ] {
            assert_eq!(images(text), want, "{text}");
        }
        for bad in ["a: *nowhere\n", "{a: [}\n", "a: \"\n", "a: b: c\n"] {
            assert!(yaml_images(bad).is_err(), "{bad}");
        }
    }
}
