"""Compare results: numbers in, numbers and sentences out.

Everything takes *runs*, one record a model as :func:`fmreport.compare.table.representatives` gives them, or tables made of them.
No result, one, or any mixture of models is fine: a table then has as many rows as there are models.
"""
