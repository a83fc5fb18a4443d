//! Documents hang together: links inside the project lead somewhere, and every page is linked from an index.

use std::collections::BTreeSet;

use super::{Finding, Texts};

/// Where every page under `docs/` must be linked from.
const INDEXES: &[&str] = &["README.md", "ARCHITECTURE.md", "docs/README.md"];

/// A link in a document.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// What a link means.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Something on the net, which tidy does not ask for.
    Elsewhere,
    /// A path that climbs above the root.
    Outside,
    /// A file or folder of the project, relative to the root.
    Inside(String),
}

/// Looks at all documents together.
pub(super) fn check(files: &[String], texts: &Texts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut indexed = BTreeSet::new();
    for (name, text) in documents(texts) {
        for link in links(text) {
            let target = target(name, &link.target);
            let problem = broken(&link.target, &target, files, texts);
            findings.extend(problem.map(|what| Finding::new(name, link.line, what)));
            if let Target::Inside(file) = target
                && INDEXES.contains(&name)
            {
                indexed.insert(file);
            }
        }
    }
    for (name, _) in documents(texts).filter(|(name, _)| name.starts_with("docs/")) {
        if !indexed.contains(name) && !INDEXES.contains(&name) {
            findings.push(Finding::new(name, 0, format!("is linked from none of {}", INDEXES.join(", "))));
        }
    }
    findings
}

fn documents(texts: &Texts) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().filter(|(name, _)| name.ends_with(".md")).map(|(name, text)| (name.as_str(), text.as_str()))
}

fn broken(link: &str, target: &Target, files: &[String], texts: &Texts) -> Option<String> {
    let file = match target {
        Target::Elsewhere => return None,
        Target::Outside => return Some(format!("{link} leads out of the project")),
        Target::Inside(file) => file,
    };
    let folder = format!("{file}/");
    if !files.contains(file) && !files.iter().any(|name| name.starts_with(&folder)) {
        return Some(format!("{link} leads nowhere"));
    }
    let (_, anchor) = link.split_once('#')?;
    let text = texts.get(file).filter(|_| file.ends_with(".md"))?;
    (!anchors(text).contains(anchor)).then(|| format!("{file} has no heading #{anchor}"))
}

fn target(from: &str, link: &str) -> Target {
    if link.contains("://") || link.starts_with("mailto:") {
        return Target::Elsewhere;
    }
    let path = link.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return Target::Inside(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Target::Outside;
                }
            }
            name => parts.push(name),
        }
    }
    Target::Inside(parts.join("/"))
}

/// All links of the form `[text](target)` outside of code.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, prose) in prose_lines(text) {
        for (at, opening) in prose.match_indices("](") {
            let rest = &prose[at + opening.len()..];
            let Some(end) = rest.find(')') else {
                continue;
            };
            // A title may follow the target: [text](target "title").
            let target = rest[..end].split(' ').next().unwrap_or_default();
            if !target.is_empty() {
                found.push(Link { line, target: target.to_owned() });
            }
        }
    }
    found
}

/// The lines outside of fences, with what stands between backticks blanked.
fn prose_lines(text: &str) -> Vec<(usize, String)> {
    let mut in_fence = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            let prose: Vec<&str> = line.split('`').step_by(2).collect();
            lines.push((index + 1, prose.join("`")));
        }
    }
    lines
}

/// The anchors of the headings, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_fence = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        in_fence ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if !in_fence && title.len() < line.len() && title.starts_with(' ') {
            let kept = title.trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(documents: &[(&str, &str)]) -> Vec<String> {
        let texts: Texts =
            documents.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let files: Vec<String> = texts.keys().cloned().collect();
        check(&files, &texts).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_link_is_followed_from_the_folder_of_its_document() {
        let index = ("docs/README.md", "[up](../README.md) [one](decisions/0001.md) [d](decisions)");
        let documents = [("README.md", "[docs](docs/README.md)"), index, ("docs/decisions/0001.md", "")];
        assert_eq!(findings(&documents), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_nothing_is_found_with_its_line() {
        assert_eq!(findings(&[("README.md", "a\n[x](gone.md)")]), ["README.md:2: gone.md leads nowhere"]);
        assert!(findings(&[("README.md", "[x](../gone.md)")])[0].contains("out of the project"));
    }

    #[test]
    fn an_anchor_needs_a_heading() {
        let text = "# The way of a load\n## 1. A, b\n[x](#the-way-of-a-load) [y](#1-a-b) [z](#none)";
        assert_eq!(findings(&[("README.md", text)]), ["README.md:3: README.md has no heading #none"]);
    }

    #[test]
    fn code_and_the_net_are_left_alone() {
        let text = "`[a](b)`\n```\n[c](d)\n```\n[e](https://example.org/f)";
        assert_eq!(findings(&[("README.md", text)]), Vec::<String>::new());
    }

    #[test]
    fn a_page_that_no_index_links_is_found() {
        let documents = [("CONTRIBUTING.md", "[x](docs/lost.md)"), ("docs/lost.md", "")];
        assert!(findings(&documents)[0].starts_with("docs/lost.md: is linked from none"));
    }
}
