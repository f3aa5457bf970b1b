// A foreign model's tensors held to the network that its configuration describes.
#pragma once

#include <string>
#include <vector>

#include "convert/name_map.h"
#include "convert/opened_model.h"

namespace colossus {

// Every tensor that the network has is there with its shape, and nothing else is; the parts of one of our tensors are
// of one type. What was passed over is appended to `notes`.
Status check_tensors(const NameMap& map, const OpenedModel& model, std::vector<std::string>& notes);

}  // namespace colossus
