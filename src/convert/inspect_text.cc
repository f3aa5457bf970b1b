#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/quantity.h"
#include "convert/inspect.h"

namespace colossus {
namespace {

struct Sum {
  int64_t tensors = 0, elements = 0, bytes = 0;
};

std::map<std::string, Sum> sums_by_type(const Inspection& inspection) {
  std::map<std::string, Sum> sums;
  for (const InspectedTensor& tensor : inspection.tensors) {
    Sum& sum = sums[tensor.dtype];
    ++sum.tensors;
    sum.elements += tensor.num_elements;
    sum.bytes += tensor.num_bytes;
  }
  return sums;
}

}  // namespace

std::string inspection_text(const Inspection& inspection) {
  std::string out = fmt::format("{}: {}\n", inspection.path, inspection.kind);
  for (const auto& [name, value] : inspection.facts) out += fmt::format("  {:<16} {}\n", name, value);
  for (const auto& [dtype, sum] : sums_by_type(inspection))
    out += fmt::format("  {:<16} {} tensors, {} elements, {}\n", dtype, sum.tensors,
                       format_quantity(static_cast<double>(sum.elements)),
                       format_quantity(static_cast<double>(sum.bytes), "bytes"));
  if (!inspection.tensors.empty()) out += "tensors\n";
  for (const InspectedTensor& tensor : inspection.tensors) {
    out += fmt::format("  {:<56} {:<5} {:<20} {:>9}  {}", tensor.name, tensor.dtype, tensor.shape,
                       format_quantity(static_cast<double>(tensor.num_bytes), "bytes"), tensor.file);
    if (tensor.checksum) out += fmt::format("  {:016x}", *tensor.checksum);
    if (tensor.num_nans > 0) out += fmt::format("  {} NaN", tensor.num_nans);
    if (tensor.num_infinities > 0) out += fmt::format("  {} infinite", tensor.num_infinities);
    out += "\n";
  }
  for (const std::string& note : inspection.notes) out += "note: " + note + "\n";
  for (const std::string& fault : inspection.faults) out += "fault: " + fault + "\n";
  if (inspection.faults.empty()) out += "no fault was found\n";
  return out;
}

std::string inspection_json(const Inspection& inspection) {
  nlohmann::ordered_json json = {{"path", inspection.path}, {"kind", inspection.kind}};
  for (const auto& [name, value] : inspection.facts) json["facts"][name] = value;
  json["tensors"] = nlohmann::ordered_json::array();
  for (const InspectedTensor& tensor : inspection.tensors) {
    nlohmann::ordered_json one = {{"name", tensor.name},
                                  {"dtype", tensor.dtype},
                                  {"shape", tensor.shape},
                                  {"bytes", tensor.num_bytes},
                                  {"file", tensor.file}};
    if (tensor.checksum) {
      one["xxh3"] = fmt::format("{:016x}", *tensor.checksum);
      one["nan"] = tensor.num_nans;
      one["infinite"] = tensor.num_infinities;
    }
    json["tensors"].push_back(std::move(one));
  }
  json["notes"] = inspection.notes;
  json["faults"] = inspection.faults;
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace colossus
