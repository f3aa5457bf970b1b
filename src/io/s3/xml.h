// As much XML as S3 answers with: elements with text, no attributes that matter.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colossus {

// The content of each element of this name in `xml`, in order, as it stands. Elements of one name do not nest.
std::vector<std::string_view> xml_elements(std::string_view xml, std::string_view name);
// The text of the first, with its entities decoded.
std::optional<std::string> xml_text(std::string_view xml, std::string_view name);
std::string xml_decode(std::string_view text);
std::string xml_encode(std::string_view text);

}  // namespace colossus
