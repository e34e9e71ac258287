"""Compare results: results in, numbers and findings out; ``fmreport.text`` puts them into words.

Everything takes *runs*, one result a model as :func:`fmreport.compare.table.representatives` gives
them, or tables made of them. No result, one, or any mixture of models is fine: a table then has as
many rows as there are models.
"""
