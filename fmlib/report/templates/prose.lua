-- What pandoc does with the report's prose beyond its defaults, for HTML and for Typst.
local html = FORMAT:match("html") ~= nil

local function quoted(text)
  return '"' .. text:gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("%s+", " ") .. '"'
end

function RawBlock(el)
  if el.format == "mark" then return pandoc.RawBlock(FORMAT, el.text) end
  return {} -- raw HTML: no scripts, and nothing that one of the two editions would lack
end

function RawInline() return {} end

-- The page makes no request, so only an image that is given as data can be shown.
function Image(el)
  if el.src:match("^data:") then
    if html then return nil end
    local alt = pandoc.utils.stringify(el.caption)
    if alt == "" then alt = "An image without a description." end
    return { pandoc.RawInline("typst", "#[#set image(alt: " .. quoted(alt) .. ");"), el, pandoc.RawInline("typst", "]") }
  end
  if el.src:match("^https?:") then return pandoc.Link(el.caption, el.src) end
  return el.caption
end

function Header(el)
  if html and el.identifier ~= "" then
    local name = "Link to section " .. pandoc.utils.stringify(el.content)
    el.content:insert(pandoc.Link("#", "#" .. el.identifier, "", { class = "anchor", ["aria-label"] = name }))
  end
  return el
end

function Table(el)
  if html then
    return pandoc.Div({ el }, { class = "scroll", tabindex = "0", role = "region", ["aria-label"] = "Table" })
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
  return pandoc.RawInline("typst", "#[#set math.equation(alt: " .. quoted(el.text) .. ");" .. math .. "]")
end
