-- The report's prose, for HTML and for Typst: numbers and ids of its sections, the contents, and what pandoc lacks.
-- A raw block of format "mark" starts each fragment, with the place of its headings: the model (or -) that their ids name,
-- how many levels deeper they go, and whether they are numbered (1 or 0).
local mark = pandoc.RawBlock(FORMAT, "~~fmlib-fragment~~")
local html = FORMAT:match("html") ~= nil

local function quoted(text)
  return '"' .. text:gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("%s+", " ") .. '"'
end

local function raw(text)
  return pandoc.RawInline(FORMAT, text)
end

function RawBlock(el)
  if el.format ~= "mark" then return {} end -- no scripts, and nothing that one of the two editions would lack
end

function RawInline() return {} end

-- The page makes no request, so only an image that is given as data can be shown.
function Image(el)
  if el.src:match("^https?:") then return pandoc.Link(el.caption, el.src) end
  if not el.src:match("^data:") then return el.caption end
  if html then return nil end
  local alt = pandoc.utils.stringify(el.caption)
  if alt == "" then alt = "An image without a description." end
  return { raw("#[#set image(alt: " .. quoted(alt) .. ");"), el, raw("]") }
end

function Table(el)
  if html then
    return pandoc.Div({ el }, { class = "scroll", tabindex = "0", role = "region", ["aria-label"] = "Table" })
  end
end

-- A formula that is too wide for a phone scrolls in its own box, by keyboard too.
function Para(el)
  if html and #el.content == 1 and el.content[1].mathtype == "DisplayMath" then
    return pandoc.Div({ el }, { class = "formula", tabindex = "0", role = "group", ["aria-label"] = "Formula" })
  end
end

function CodeBlock(el)
  if html then el.attributes["tabindex"] = "0" end
  return el
end

-- Tagged PDFs want words for a formula: its LaTeX is what screen readers and authors share.
function Math(el)
  if html then return nil end
  local math = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ el }) }), "typst"):gsub("%s+$", "")
  if math:sub(1, 1) ~= "$" then return nil end
  return raw("#[#set math.equation(alt: " .. quoted(el.text) .. ");" .. math .. "]")
end

local ids, levels, counts, contents = {}, {}, {}, {}

local function unique_id(wanted)
  local found, n = wanted, 1
  while ids[found] do n = n + 1; found = wanted .. "-" .. n end
  ids[found] = true
  return found
end

local function slug(text)
  return (pandoc.text.lower(text):gsub("[^a-z0-9]+", "-"):gsub("^-+", ""):gsub("-+$", ""))
end

local function listed(el, number)
  local title = el.content:walk({ Link = function(link) return link.content end, Note = function() return {} end })
  local entry = pandoc.Plain({ raw(('<li class="level-%d"><a href="#%s">'):format(el.level, el.identifier)) })
  entry.content:extend({ raw(('<span class="number">%s</span> <span>'):format(number)) })
  entry.content:extend(title)
  entry.content:extend({ raw("</span></a></li>") })
  table.insert(contents, entry)
end

-- No level is left out below another, whatever a notebook does; three levels have numbers and are in the contents.
local function section(el, place)
  local level = el.level + place.deeper
  while #levels > 0 and levels[#levels] >= level do table.remove(levels) end
  table.insert(levels, level)
  el.level = #levels
  el.identifier = unique_id("sec-" .. place.own .. slug(pandoc.utils.stringify(el.content)))
  local number = ""
  if place.numbered and el.level <= 3 then
    for i = el.level + 1, #counts do counts[i] = nil end
    for i = 1, el.level do counts[i] = counts[i] or 0 end
    counts[el.level] = counts[el.level] + 1
    number = table.concat(counts, ".")
  end
  if el.level <= 3 then listed(el, number) end
  local name = "Link to section " .. pandoc.utils.stringify(el.content)
  if number ~= "" then
    el.content:insert(1, pandoc.Span({ pandoc.Str(number) }, { class = "number" }))
    el.content:insert(2, pandoc.Str("\u{2002}"))
  end
  if html then
    el.content:insert(pandoc.Link("#", "#" .. el.identifier, "", { class = "anchor", ["aria-label"] = name }))
  end
end

function Pandoc(doc)
  local place
  for i, el in ipairs(doc.blocks) do
    if el.t == "RawBlock" then
      local model, deeper, numbered = el.text:match("^(%S+) (%d) (%d)")
      place = { own = deeper == "1" and model .. "-" or "", deeper = tonumber(deeper), numbered = numbered == "1" }
      doc.blocks[i] = mark
    elseif el.t == "Header" then
      section(el, place)
      doc.blocks[i] = el
    end
  end
  doc = doc:walk({
    Link = function(el) -- a link to a section by its title's words; one that leads nowhere is only its text
      local target = el.target:match("^#(.*)")
      if not target or ids[target] or target:match("^fig%-") or target:match("^table%-") then return nil end
      if not ids["sec-" .. slug(target)] then return el.content end
      el.target = "#sec-" .. slug(target)
      return el
    end,
  })
  if html then
    doc.blocks:insert(mark)
    doc.blocks:extend(contents)
  end
  return doc
end
