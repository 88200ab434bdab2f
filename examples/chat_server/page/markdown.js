// Markdown, as models write it, to nodes. Nothing that a text says is parsed as HTML: it becomes text in elements of this
// file's choosing. Links lead to the web or to a mailbox, and pictures, which would tell others who reads, become links.

const DEEPEST = 6;  // of quotes and lists in each other

const FENCE = /^\s*(`{3,}|~{3,})\s*([\w+-]*)/;
const HEADING = /^(#{1,6})\s+(.+?)\s*#*$/;
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|(\d{1,9})[.)])\s+/;
const COLUMNS = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;

const INLINE = new RegExp([
  /\\(?<escaped>[\\`*_{}[\]()#+\-.!|~>])/,
  /(?<ticks>`+)(?<code>.+?)\k<ticks>(?!`)/,
  /\*\*(?=\S)(?<strong>.+?)(?<=\S)\*\*/,
  /~~(?=\S)(?<del>.+?)(?<=\S)~~/,
  /(?<![\w*])\*(?=[^\s*])(?<em>[^*]+?)(?<=\S)\*(?![\w*])/,  // not in sums: 12*7
  /(?<!\w)_(?=[^\s_])(?<em2>[^_]+?)(?<=\S)_(?!\w)/,
  /!?\[(?<label>[^\]]+)\]\((?<to>[^()\s]+(?:\([^()\s]*\)[^()\s]*)?)\)/,
  /(?<url>https?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]*_~])/,
].map(one => one.source).join("|"), "g");

function markdown(text) {
  const made = new DocumentFragment();
  made.append(...blocks(text.split(/\r?\n/), 0));
  return made;
}

function node(tag, content, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...content);
  return made;
}

function blocks(lines, depth) {
  const made = [];
  for (let at = 0, found; at < lines.length;) {
    const line = lines[at], nested = depth < DEEPEST;
    if (!line.trim()) at++;
    else if ((found = line.match(FENCE))) {
      let end = at + 1;
      while (end < lines.length && lines[end].trim() !== found[1]) end++;
      made.push(node("pre", [node("code", [lines.slice(at + 1, end).join("\n")])], { tabIndex: 0 }));
      at = end + 1;
    } else if ((found = line.match(HEADING))) {
      made.push(node(`h${Math.min(found[1].length + 1, 6)}`, inline(found[2])));
      at++;
    } else if (RULE.test(line)) {
      made.push(node("hr", []));
      at++;
    } else if (nested && QUOTE.test(line)) {
      const end = until(lines, at, one => !QUOTE.test(one));
      made.push(node("blockquote", blocks(lines.slice(at, end).map(one => one.replace(QUOTE, "")), depth + 1)));
      at = end;
    } else if (nested && ITEM.test(line)) {
      const [made_, end] = list(lines, at, depth);
      made.push(made_);
      at = end;
    } else if (line.includes("|") && COLUMNS.test(lines[at + 1] ?? "")) {
      const end = until(lines, at + 2, one => !one.includes("|"));
      made.push(table(line, lines.slice(at + 2, end)));
      at = end;
    } else {
      const end = until(lines, at + 1, one => !one.trim() || (nested && (QUOTE.test(one) || ITEM.test(one))) || FENCE.test(one) || HEADING.test(one) || RULE.test(one));
      made.push(node("p", lines.slice(at, end).flatMap((one, number) => [...(number ? [node("br", [])] : []), ...inline(one.trim())])));
      at = end;
    }
  }
  return made;
}

function until(lines, at, ends) {
  while (at < lines.length && !ends(lines[at])) at++;
  return at;
}

function list(lines, at, depth) {
  const [, indent, , number] = lines[at].match(ITEM), items = [];
  const same = line => { const found = line.match(ITEM); return found && found[1].length <= indent.length && !found[3] === !number; };
  while (at < lines.length && same(lines[at])) {
    const marker = lines[at].match(ITEM)[0].length, own = [lines[at].slice(marker)];
    for (at++; at < lines.length; at++) {
      const inside = lines[at].search(/\S/) > indent.length || (!lines[at].trim() && (lines[at + 1] ?? "").search(/\S/) > indent.length);
      if (!inside) break;
      own.push(lines[at].slice(Math.min(marker, Math.max(0, lines[at].search(/\S/)))));
    }
    while (at + 1 < lines.length && !lines[at].trim() && same(lines[at + 1])) at++;  // a blank line between two items
    const content = blocks(own, depth + 1);
    items.push(node("li", content.length === 1 && content[0].tagName === "P" ? [...content[0].childNodes] : content));
  }
  return [number ? node("ol", items, { start: Number(number) }) : node("ul", items), at];
}

function table(head, rows) {
  const cells = line => line.trim().replace(/^\||\|$/g, "").split("|").map(one => inline(one.trim()));
  const row = (tag, line) => node("tr", cells(line).map(one => node(tag, one)));
  return node("div", [node("table", [node("thead", [row("th", head)]), node("tbody", rows.map(one => row("td", one)))])], { className: "wide", tabIndex: 0 });
}

function inline(text, depth = 0) {
  if (depth > DEEPEST) return [text];
  const made = [];
  let rest = 0;
  for (const { 0: all, index, groups } of text.matchAll(INLINE)) {
    made.push(text.slice(rest, index));
    rest = index + all.length;
    const within = kind => inline(groups[kind], depth + 1);
    if (groups.escaped) made.push(groups.escaped);
    else if (groups.code) made.push(node("code", [groups.code.replace(/^ (.+) $/, "$1")]));
    else if (groups.strong) made.push(node("strong", within("strong")));
    else if (groups.del) made.push(node("del", within("del")));
    else if (groups.em) made.push(node("em", within("em")));
    else if (groups.em2) made.push(node("em", within("em2")));
    else if (groups.label) made.push(link(groups.to, within("label")) ?? all);
    else made.push(link(groups.url, [groups.url]));
  }
  made.push(text.slice(rest));
  return made.filter(one => one !== "");
}

function link(to, content) {
  if (!/^(https?:\/\/|mailto:)/i.test(to) || !URL.canParse(to)) return null;
  return node("a", content, { href: to, target: "_blank", rel: "noopener noreferrer nofollow" });
}
