# The GPU device: its kernels (*_cuda.cu in src/ops) and src/device/cuda, as one of three libraries that have the same
# functions (src/device/cuda/cuda_device.h). The program links colossus_gpu: CUDA where the build asks for it, else
# no_cuda.cc. Tests link colossus_emulated_gpu, which runs the same kernel sources on the CPU.
file(GLOB_RECURSE COLOSSUS_GPU_KERNELS CONFIGURE_DEPENDS src/ops/*_cuda.cu src/device/cuda/*.cu)
list(FILTER COLOSSUS_GPU_KERNELS EXCLUDE REGEX "/native/")
file(GLOB COLOSSUS_GPU_SOURCES CONFIGURE_DEPENDS src/device/cuda/*.cc)
list(FILTER COLOSSUS_GPU_SOURCES EXCLUDE REGEX "(_test|/no_cuda)\\.cc$")

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
  enable_language(CUDA)
  file(GLOB native CONFIGURE_DEPENDS src/device/cuda/native/*.cc src/device/cuda/native/*.cu)
  add_library(colossus_gpu STATIC ${COLOSSUS_GPU_SOURCES} ${native} ${COLOSSUS_GPU_KERNELS})
  set_target_properties(colossus_gpu PROPERTIES CUDA_STANDARD 20 CUDA_ARCHITECTURES OFF)
  target_compile_options(colossus_gpu PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    -gencode=arch=compute_90a,code=sm_90a --expt-relaxed-constexpr -Xcompiler=-Wno-pedantic>)
  target_include_directories(colossus_gpu SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(colossus_gpu PUBLIC colossus_device ${CMAKE_DL_LIBS})
endfunction()
