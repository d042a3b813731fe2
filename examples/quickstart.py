"""Ask a language model for one forecast in words, and read its answer back as numbers.

python examples/quickstart.py
"""

import numpy as np

import st2llm

if __name__ == "__main__":
    data = st2llm.load_data("auckland-pedestrians")
    task = st2llm.tasks.forecast(history=168, horizon=24)
    sample = st2llm.split(data, task, stride=24).test[0].at(data.places[0])
    template = st2llm.load_prompt("graph/forecast")
    prompt = template.render(sample)
    print(prompt.text)

    llm = st2llm.load_llm("smollm2-135m")
    (answer,) = llm.complete([prompt])
    print(f"\nThe model says: {answer.text}\nThe truth is:   {prompt.truth}")

    forecast = template.read(answer.text, sample)
    if forecast.value is None:
        print(f"Unreadable: {forecast.unread_reason}")
    else:
        error = np.nanmean(np.abs(forecast.value - sample.truth))
        print(f"Mean absolute error: {error:.1f} {data.unit}")
