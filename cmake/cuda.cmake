# The GPU device: its kernels (*_cuda.cu in src/ops) and src/device/cuda, as one of three libraries that have the same
# functions (src/device/cuda/cuda_device.h). The program links colossus_gpu: CUDA where the build asks for it, else
# no_cuda.cc. Tests link colossus_emulated_gpu, which runs the same kernel sources on the CPU.
file(GLOB_RECURSE COLOSSUS_GPU_KERNELS CONFIGURE_DEPENDS src/ops/*_cuda.cu src/device/cuda/*.cu)
list(FILTER COLOSSUS_GPU_KERNELS EXCLUDE REGEX "/native/")
file(GLOB COLOSSUS_GPU_SOURCES CONFIGURE_DEPENDS src/device/cuda/*.cc)
list(FILTER COLOSSUS_GPU_SOURCES EXCLUDE REGEX "(_test|/no_cuda)\\.cc$")

if(COLOSSUS_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # said below: CMake knows no 90a
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc has had C++20 since 12.0.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()

function(colossus_emulated_gpu)
  colossus_system_library(boost_context boost/context/fiber.hpp libboost-context-dev)
  file(GLOB emulation CONFIGURE_DEPENDS src/device/cuda/emulated/*.cc)
  list(FILTER emulation EXCLUDE REGEX "_test\\.cc$")
  # Copies under other names: a source file has one language, and in colossus_gpu these are CUDA's.
  set(kernels "")
  foreach(kernel ${COLOSSUS_GPU_KERNELS})
    cmake_path(RELATIVE_PATH kernel BASE_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE path)
    set(copy ${CMAKE_BINARY_DIR}/emulated/${path}.cc)
    file(CONFIGURE OUTPUT ${copy} CONTENT "#include \"${kernel}\"\n")
    list(APPEND kernels ${copy})
  endforeach()
  add_library(colossus_emulated_gpu STATIC ${COLOSSUS_GPU_SOURCES} ${emulation} ${kernels})
  # Pragmas are for nvcc.
  target_compile_options(colossus_emulated_gpu PRIVATE -Wno-unknown-pragmas)
  target_link_libraries(colossus_emulated_gpu PUBLIC colossus_device boost_context)
endfunction()

function(colossus_gpu)
  if(NOT COLOSSUS_CUDA)
    add_library(colossus_gpu STATIC src/device/cuda/no_cuda.cc)
    target_link_libraries(colossus_gpu PUBLIC colossus_device)
    return()
  endif()
  file(GLOB native CONFIGURE_DEPENDS src/device/cuda/native/*.cc src/device/cuda/native/*.cu)
  add_library(colossus_gpu STATIC ${COLOSSUS_GPU_SOURCES} ${native} ${COLOSSUS_GPU_KERNELS})
  target_compile_options(colossus_gpu PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    -gencode=arch=compute_90a,code=sm_90a --expt-relaxed-constexpr>)
  find_path(COLOSSUS_NCCL_INCLUDE_DIR nccl.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  if(NOT COLOSSUS_NCCL_INCLUDE_DIR)
    message(FATAL_ERROR "nccl.h is not found: install NCCL's headers (libnccl-dev of NVIDIA's repository), or name their "
      "folder with -DCOLOSSUS_NCCL_INCLUDE_DIR=DIR (Python's nvidia-nccl package has them in nvidia/nccl/include)")
  endif()
  target_include_directories(colossus_gpu SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}
    ${COLOSSUS_NCCL_INCLUDE_DIR})
  target_link_libraries(colossus_gpu PUBLIC colossus_device ${CMAKE_DL_LIBS})
endfunction()

# The tests of kernels and of whole models on a real GPU, as one program that can be carried to one (bench/gpu). What runs
# without a GPU is the same tests in colossus_device_test and colossus_tests_test.
function(colossus_gpu_check)
  if(NOT COLOSSUS_CUDA)
    return()
  endif()
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS src/ops/*_test.cc)
  add_executable(colossus_gpu_check ${tests} tests/oracle_families_test.cc tests/oracle_training_test.cc
    tests/gpu_training_test.cc tests/gpu_ranks_test.cc)
  target_include_directories(colossus_gpu_check PRIVATE tests)
  target_compile_definitions(colossus_gpu_check PRIVATE COLOSSUS_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_compile_options(colossus_gpu_check PRIVATE -fpch-preprocess ${COLOSSUS_TEST_OPTIONS})
  target_precompile_headers(colossus_gpu_check REUSE_FROM colossus_test_prelude)
  target_link_libraries(colossus_gpu_check PRIVATE colossus_train colossus_infer colossus_gpu GTest::gmock
    GTest::gtest_main)
  set_target_properties(colossus_gpu_check PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()
