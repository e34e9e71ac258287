-- The report's document, for HTML and for Typst: numbers and ids of sections, figures and tables, links between them, the
-- contents, and the markup of what a notebook shows. The document is one Div a chapter, of one Div a piece (see merge.py).
local html = FORMAT:match("html") ~= nil
local stringify = pandoc.utils.stringify

local function raw(text)
  return pandoc.RawInline(FORMAT, text)
end

local function block(text)
  return pandoc.Blocks({ pandoc.RawBlock(FORMAT, text) })
end

-- Markup around a caption, which stays pandoc's.
local function around(before, caption, after)
  local inlines = pandoc.Inlines({ raw(before) })
  inlines:extend(caption)
  inlines:extend({ raw(after) })
  return pandoc.Blocks({ pandoc.Plain(inlines) })
end

-- A string literal of Typst.
local function quoted(text)
  return '"' .. text:gsub("\\", "\\\\"):gsub('"', '\\"') .. '"'
end

local function escaped(text)
  return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

local function highlighted(source, classes)
  local code = pandoc.Pandoc({ pandoc.CodeBlock(source, pandoc.Attr("", classes)) })
  local markup = pandoc.write(code, "html", PANDOC_WRITER_OPTIONS)
  -- Without pandoc's links to each line.
  return (markup:match("<code.->(.*)</code>"):gsub('<span id="cb[^>]*><a [^>]*></a>([^\n]*)</span>', "%1"))
end

---------------------------------------------------------------------------------------------------------------- prose
local prose = {}

-- HTML becomes what both editions have, without scripts and styles; of a single tag only a picture or a break is anything.
function prose.RawBlock(el)
  if el.format ~= "html" then return pandoc.Para({ pandoc.Str(el.text) }) end
  return pandoc.read(el.text, "html").blocks
end

function prose.RawInline(el)
  if el.format ~= "html" then return pandoc.Str(el.text) end
  if el.text:match("^<br") then return pandoc.LineBreak() end
  if not el.text:match("^<img") then return {} end
  local blocks = pandoc.read(el.text, "html").blocks
  return blocks[1] and blocks[1].content or {}
end

local macros = "" -- LaTeX that any formula may use

local function expanded(el)
  if macros == "" then return el end
  local read = pandoc.read(macros .. "\n\n$" .. el.text .. "$\n", "markdown+latex_macros")
  local last = read.blocks[#read.blocks]
  local math = last and last.content and last.content[1]
  return math and math.t == "Math" and pandoc.Math(el.mathtype, math.text) or el
end

-- In a caption, which has no markup of HTML, what looks like it is text.
local literal = { RawInline = function(el) return pandoc.Str(el.text) end }

-- Ids are the report's own.
for _, kind in ipairs({ "Div", "Header", "Link", "Span" }) do
  prose[kind] = function(el) el.identifier = ""; return el end
end

-- The page makes no request, so only an image that is given as data can be shown.
function prose.Image(el)
  if el.src:match("^https?:") then return pandoc.Link(el.caption, el.src) end
  if not el.src:match("^data:") then return el.caption end
  if html then return nil end
  local alt = stringify(el.caption)
  if alt == "" then alt = "An image without a description." end
  return { raw("#[#set image(alt: " .. quoted(alt) .. ");"), el, raw("]") }
end

function prose.Table(el)
  if html then
    return pandoc.Div({ el }, { class = "scroll", tabindex = "0", role = "region", ["aria-label"] = "Table" })
  end
end

-- A formula that is too wide for a phone scrolls in its own box, by keyboard too.
function prose.Para(el)
  if html and #el.content == 1 and el.content[1].mathtype == "DisplayMath" then
    return pandoc.Div({ el }, { class = "formula", tabindex = "0", role = "group", ["aria-label"] = "Formula" })
  end
end

function prose.CodeBlock(el)
  if html then return block('<pre tabindex="0"><code>' .. highlighted(el.text, el.classes) .. "</code></pre>") end
  return block(("#raw(block: true, lang: %s, %s)"):format(quoted(el.classes[1] or "txt"), quoted(el.text)))
end

-- Pandoc's own markup of Typst does not outlive every backtick.
function prose.Code(el)
  if not html then return raw("#raw(" .. quoted(el.text) .. ")") end
end

-- Tagged PDFs want words for a formula: its LaTeX is what screen readers and authors share.
function prose.Math(el)
  el = expanded(el)
  if html then return el end
  local math = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ el }) }), "typst"):gsub("%s+$", "")
  if math:sub(1, 1) ~= "$" then return el end
  return raw("#[#set math.equation(alt: " .. quoted((el.text:gsub("%s+", " "))) .. ");" .. math .. "]")
end

-------------------------------------------------------------------------------------------------------------- numbers
local ids, levels, numbers, counts = {}, {}, {}, { figure = 0, table = 0 }

local function unique_id(wanted)
  local found, n = wanted, 1
  while ids[found] do n = n + 1; found = wanted .. "-" .. n end
  ids[found] = true
  return found
end

local function slug(text)
  return (pandoc.text.lower(text):gsub("[^a-z0-9]+", "-"):gsub("^-+", ""):gsub("-+$", ""))
end

-- A heading's level, number and id. No level is left out below another, whatever a notebook does; three have numbers.
local function number_section(el)
  while #levels > 0 and levels[#levels] >= el.level do table.remove(levels) end
  table.insert(levels, el.level)
  local section = { level = #levels, number = "", id = unique_id("sec-" .. slug(stringify(el.content))) }
  if section.level <= 3 then
    numbers[section.level] = (numbers[section.level] or 0) + 1
    for i = section.level + 1, #numbers do numbers[i] = nil end
    section.number = table.concat(numbers, ".")
  end
  return section
end

-- What the pieces of a chapter are called: for each, and for each heading of prose, id and label or number; and all of
-- them by the names that links use.
local function number(chapter)
  local found, names = {}, {}
  for i, piece in ipairs(chapter.content) do
    local kind, name = piece.classes[1], piece.attributes.name or ""
    found[i] = {}
    if kind == "prose" then
      for k, el in ipairs(piece.content) do
        if el.t == "Header" then
          local section = number_section(el)
          found[i][k] = section
          local target = "sec-" .. slug(stringify(el.content))
          names[target] = names[target] or { id = section.id }
        end
      end
    elseif name ~= "" then
      local target = (kind == "figure" and "fig-" or "table-") .. name
      counts[kind] = counts[kind] + 1
      local label = (kind == "figure" and "Figure" or "Table") .. "\u{a0}" .. counts[kind]
      found[i] = { id = unique_id(target), label = label }
      names[target] = names[target] or found[i]
    end
  end
  return found, names
end

-- A link to a figure or table becomes its label; one to a section, by its title's words, keeps its text; one that leads
-- nowhere is only its text. What the chapter itself has goes first.
local function linked(names, everywhere)
  return {
    Link = function(el)
      local target = el.target:match("^#(.*)")
      if not target then return nil end
      local title = "sec-" .. slug(target)
      local found = names[target] or names[title] or everywhere[target] or everywhere[title]
      if not found then return el.content end
      return pandoc.Link(found.label or el.content, "#" .. found.id)
    end,
  }
end

--------------------------------------------------------------------------------------------------------------- pieces
local contents = pandoc.Blocks({})

local function listed(el, section)
  local title = el.content:walk({ Link = function(link) return link.content end, Note = function() return {} end })
  local entry = '<li class="level-%d"><a href="#%s"><span class="number">%s</span> <span>'
  contents:extend(around(entry:format(section.level, section.id, section.number), title, "</span></a></li>"))
end

local function heading(el, section)
  -- On the page the title is the one heading of level 1.
  el.level, el.identifier = html and math.min(section.level + 1, 6) or section.level, section.id
  if section.level <= 3 then listed(el, section) end
  local name = "Link to section " .. stringify(el.content)
  if section.number ~= "" then
    el.content:insert(1, pandoc.Span({ pandoc.Str(section.number) }, { class = "number" }))
    el.content:insert(2, pandoc.Str("\u{2002}"))
  end
  if html then
    el.content:insert(pandoc.Link("#", "#" .. section.id, "", { class = "anchor", ["aria-label"] = name }))
  end
  return el
end

-- A heading in a quote or a list begins no section.
local nested = { Header = function(el) return pandoc.Para({ pandoc.Strong(el.content) }) end }

local function show_prose(piece, sections)
  local shown = pandoc.Blocks({})
  for k, el in ipairs(piece.content) do
    shown:insert(sections[k] and heading(el, sections[k]) or el:walk(nested))
  end
  return shown
end

-- The caption's inlines, without what stands in for the label, which is a link in HTML.
local function caption(piece, named)
  local inlines = piece.content[1] and piece.content[1].content or pandoc.Inlines({})
  if #inlines == 0 then return inlines end
  inlines:remove(1)
  if html and named.id then
    inlines:insert(1, raw(('<a class="label" href="#%s">%s</a>'):format(named.id, named.label)))
  elseif not html then
    inlines:remove(1) -- the space
  end
  return inlines
end

local on_page, in_print = { prose = show_prose }, { prose = show_prose }

local function cells_of(row, marks, sort, numeric)
  local cells = {}
  for k, text in ipairs(row) do
    local inner = marks[k] and "<strong>" .. escaped(text) .. "</strong>" or escaped(text)
    local length = pandoc.text.len(text)
    local cell = '<td%s>%s</td>'
    local class = length < 16 and ' class="short"' or ""
    if k == 1 and not numeric[1] then
      cell = '<th scope="row"%s>%s</th>'
      class = length < 40 and ' class="short"' or ""
    elseif numeric[k] then
      class = (' class="numeric" data-sort="%s"'):format(sort[k])
    end
    cells[k] = cell:format(class, inner)
  end
  return "<tr>" .. table.concat(cells) .. "</tr>\n"
end

-- A table in a box that scrolls, named by an attribute; a missing number is sorted last.
local function table_box(encoded, named)
  local it, lines = pandoc.json.decode(encoded, false), {}
  for k, name in ipairs(it.columns) do
    lines[k] = ('<th scope="col"%s>%s</th>'):format(it.numeric[k] and ' class="numeric"' or "", escaped(name))
  end
  table.insert(lines, "</tr></thead>\n<tbody>\n")
  for i, row in ipairs(it.rows) do table.insert(lines, cells_of(row, it.best[i], it.sort[i], it.numeric)) end
  local open = '<div class="scroll" tabindex="0" role="region" %s>\n<table class="sortable n-last" %s>\n<thead><tr>'
  return open:format(named, named) .. table.concat(lines) .. "</tbody>\n</table>\n</div>"
end

-- What stands behind a figure: its numbers as a table, and to take away.
local function numbers_of(it, named)
  if not it.cells then return "" end
  local box = table_box(it.cells, ('aria-label="Numbers of %s"'):format(named.label))
  local link = '<a download="%s.csv" href="data:text/csv;charset=utf-8;base64,%s">Download as CSV</a>'
  return '\n<details class="numbers">\n<summary>Numbers</summary>\n' .. box .. "\n<p>" .. link:format(it.name, it.csv) ..
    "</p>\n</details>"
end

function on_page.figure(piece, named)
  local it, words = piece.attributes, caption(piece, named)
  local open = named.id and ('<figure id="%s" class="picture">'):format(named.id) or '<figure class="picture">'
  local width = it.width ~= "" and (' width="%s"'):format(it.width) or ""
  open = open .. ('\n<div class="plot"><div><img src="%s" alt="%s"%s>'):format(it.src, escaped(it.alt), width)
  local point = '<button type="button" class="point%s" style="left:%s%%;top:%s%%" aria-label="%s"><span>%s</span></button>'
  for _, one in ipairs(pandoc.json.decode(it.points, false)) do
    local told = escaped(one[3])
    open = open .. point:format(one[1] > 60 and " late" or "", one[1], one[2], told, told)
  end
  open = open .. "</div></div>"
  if #words == 0 then return block(open .. "\n</figure>") end
  return around(open .. "\n<figcaption>", words, "</figcaption>\n</figure>" .. numbers_of(it, named))
end

on_page["table"] = function(piece, named)
  local by = ('aria-labelledby="%s-caption"'):format(named.id)
  local open = ('<figure id="%s" class="table">\n<figcaption id="%s-caption">'):format(named.id, named.id)
  return around(open, caption(piece, named), "</figcaption>\n" .. table_box(piece.attributes.cells, by) .. "\n</figure>")
end

-- Made by the script, for which it is the data; what it shows is in figures and tables too.
function on_page.explorer(piece)
  local data = piece.attributes.data:gsub("<", "\\u003c")
  return block('<section class="explorer" hidden>\n<script type="application/json">' .. data .. "</script>\n</section>")
end

function on_page.code(piece)
  local it = piece.attributes
  local summary, body = "Log", ""
  if it.source ~= "" then
    local _, breaks = it.source:gsub("\n", "")
    local lines = breaks == 0 and "1 line" or (breaks + 1) .. " lines"
    summary = ('Code<span class="detail">%s%s</span>'):format(lines, it.log ~= "" and ", and a log" or "")
    local code = highlighted(it.source, { "python" })
    body = '<div class="copyable"><pre class="source" tabindex="0"><code>' .. code .. "</code></pre></div>\n"
  end
  if it.log ~= "" then body = body .. '<pre class="log" tabindex="0">' .. escaped(it.log) .. "</pre>\n" end
  local open = it.open == "yes" and " open" or ""
  return block(('<details class="code"%s>\n<summary>'):format(open) .. summary .. "</summary>\n" .. body .. "</details>")
end

-- An output of HTML as what both editions have; where nothing is left of it, its plain text.
local function shown_html(piece)
  local blocks = pandoc.read(piece.attributes.html, "html").blocks
  if stringify(blocks) ~= "" or piece.attributes.html:match("<img") then return blocks:walk(prose) end
  if piece.attributes.text == "" then return {} end
  return (html and on_page or in_print).text(piece)
end

function on_page.text(piece)
  return block('<pre class="output" tabindex="0">' .. escaped(piece.attributes.text) .. "</pre>")
end

function on_page.notice(piece)
  return block('<p class="notice" role="note">' .. escaped(piece.attributes.text) .. "</p>")
end

local suffixes = { ["image/svg+xml"] = "svg", ["image/png"] = "png", ["image/jpeg"] = "jpg" }

function in_print.figure(piece, named)
  local it = piece.attributes
  local mime, image = pandoc.mediabag.fetch(it.src)
  local name = ("%s.%s"):format(named.id or unique_id("image"), suffixes[mime])
  pandoc.mediabag.insert(name, mime, image)
  local width = it.width ~= "" and it.width or "0"
  local open = ("#picture(%s, alt: %s, width: %spt * 0.75"):format(quoted(name), quoted(it.alt), width)
  if not named.id then return block(open .. ")") end
  open = open .. (", label: %s, id: label(%s), caption: ["):format(quoted(named.label), quoted(named.id))
  return around(open, caption(piece, named), "])")
end

in_print["table"] = function(piece, named)
  local cells = quoted(piece.attributes.cells)
  local open = ("#data-table(..json(bytes(%s)), label: %s, id: label(%s), caption: ["):format(
    cells, quoted(named.label), quoted(named.id))
  return around(open, caption(piece, named), "])")
end

function in_print.code(piece)
  local it = piece.attributes
  return it.open == "yes" and it.source ~= "" and block("#code(" .. quoted(it.source) .. ")") or {}
end

function in_print.explorer() return {} end

function in_print.text(piece) return block("#output(" .. quoted(piece.attributes.text) .. ")") end

on_page.html, in_print.html = shown_html, shown_html

function in_print.notice(piece) return block("#notice(" .. quoted(piece.attributes.text) .. ")") end

------------------------------------------------------------------------------------------------------------- document
local function has_notes(blocks)
  local found = false
  blocks:walk({ Note = function() found = true end })
  return found
end

local function first_title(doc)
  local title
  doc.blocks:walk({ Header = function(el) title = title or (el.level == 1 and stringify(el.content)) or nil end })
  return title or "Report"
end

function Pandoc(doc)
  local report = pandoc.json.decode(stringify(doc.meta.report), false)
  if report.title == "" then report.title = first_title(doc) end
  macros = report.macros
  local found, names, everywhere, show = {}, {}, {}, html and on_page or in_print
  for i, chapter in ipairs(doc.blocks) do
    found[i], names[i] = number(chapter)
    for name, target in pairs(names[i]) do everywhere[name] = everywhere[name] or target end
  end
  local blocks = pandoc.Blocks({})
  for i, chapter in ipairs(doc.blocks) do
    for k, piece in ipairs(chapter.content) do
      local kind = piece.classes[1]
      if kind ~= "prose" then piece.content = piece.content:walk(literal) end
      piece.content = piece.content:walk(prose):walk(linked(names[i], everywhere))
      blocks:extend(show[kind](piece, found[i][k]))
    end
  end
  if html then
    if has_notes(blocks) then -- pandoc puts them at the end
      local notes = { level = 1, number = "", id = unique_id("sec-notes-and-sources") }
      blocks:insert(heading(pandoc.Header(1, "Notes and sources"), notes))
    end
    for _, name in ipairs({ "style", "script" }) do report[name] = raw(report[name]) end
    report.facts = report.facts:map(function(fact) return { label = fact[1], text = fact[2] } end)
    report.keywords = raw(escaped(table.concat(report.keywords, ", "))) -- both stand in attributes
    report.description = raw(escaped(report.subtitle))
    report.contents = contents
  else
    local front = quoted(pandoc.json.encode(report))
    blocks:insert(1, pandoc.RawBlock("typst", '#import "report.typ": *\n#show: report.with(..json(bytes(' .. front .. ")))"))
  end
  return pandoc.Pandoc(blocks, html and report or {})
end
