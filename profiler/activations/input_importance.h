// What a profile says of the weights of its model: how much the squared error of each counts, since
// it is multiplied by an input of that size.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace thermocline {

// Returns the mean square of every input of the model's matrices, by the matrix's name. The
// embedding table and the output head have none, and matrices with a row per neuron of down have
// one number per row, which changes nothing. Throws Error where the profile is of another model or
// of another shape, or holds no squares.
std::map<std::string, std::vector<float>> ReadImportance(const std::string& profile_path,
                                                         const std::string& model_path);

}  // namespace thermocline
