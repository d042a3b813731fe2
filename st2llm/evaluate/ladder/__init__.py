"""One suite with several language models: does a larger model change the answer?"""
