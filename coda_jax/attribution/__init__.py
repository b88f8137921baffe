"""Attribution methods that explain any function from inputs to logits, and that CoDA-Nets are compared with."""

from coda_jax.attribution.deeplift import deeplift as deeplift
from coda_jax.attribution.gradcam import gradcam as gradcam
from coda_jax.attribution.gradient import gradient as gradient
from coda_jax.attribution.guided_backpropagation import guided_backpropagation as guided_backpropagation
from coda_jax.attribution.input_x_gradient import input_x_gradient as input_x_gradient
from coda_jax.attribution.integrated_gradients import integrated_gradients as integrated_gradients
from coda_jax.attribution.lime import lime as lime
from coda_jax.attribution.occlusion import occlusion as occlusion
from coda_jax.attribution.rise import rise as rise
from coda_jax.attribution.smoothgrad import smoothgrad as smoothgrad
