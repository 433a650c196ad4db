using System.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>
/// What the query string asks for: <c>?cursor=…&amp;size=20</c>, both optional, names by <see cref="HttpPaginationOptions"/>. A parameter of a minimal API's handler or of a controller's action, without any
/// attribute. An endpoint that has one answers 400 with problem details to a bad query, and to <see cref="InvalidCursorException"/> and <see cref="InvalidPageSizeException"/> that its handler throws. A size of more
/// digits than an <see cref="int"/> has counts as the largest, or least.
/// </summary>
[ModelBinder(typeof(PageQueryModelBinder))]
public sealed class PageQuery : IBindableFromHttpContext<PageQuery>, IEndpointParameterMetadataProvider
{
    private readonly PageRequest _request;

    /// <summary>A query for that page, as a test of a handler needs it.</summary>
    /// <param name="request">The page.</param>
    public PageQuery(PageRequest request) => _request = request;

    private PageQuery(PageProblem problem) => Problem = problem;

    /// <summary>What to open by <see cref="CursorPaginator.Open{T}"/>; <c>query.Request with { Total = TotalKind.Capped }</c> counts, too.</summary>
    /// <exception cref="BadHttpRequestException">The query was bad, and this is no endpoint that knows of the parameter, so that it was not refused before.</exception>
    public PageRequest Request => Problem is null ? _request : throw new InvalidPageQueryException(Problem);

    /// <summary>What is wrong with the query string.</summary>
    internal PageProblem? Problem { get; }

    /// <summary>Reads the query string. Minimal APIs call it.</summary>
    /// <param name="context">The request.</param>
    /// <param name="parameter">The parameter of the handler.</param>
    /// <returns>The query; never null.</returns>
    public static ValueTask<PageQuery?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        ArgumentNullException.ThrowIfNull(context);
        PageQuery query = Read(context);

        // The filter runs after this, and the parameter may be part of another one ([AsParameters]), where it would not find it.
        context.Features.Set(query);
        return ValueTask.FromResult<PageQuery?>(query);
    }

    /// <summary>Has the endpoint answer what is wrong with a request for a page. Minimal APIs call it.</summary>
    /// <param name="parameter">The parameter of the handler.</param>
    /// <param name="builder">The endpoint.</param>
    public static void PopulateMetadata(ParameterInfo parameter, EndpointBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        if (!builder.Metadata.Contains(PageQueryMetadata.Instance))
        {
            builder.Metadata.Add(PageQueryMetadata.Instance);
            builder.FilterFactories.Insert(0, PageQueryMetadata.Answer);
            builder.FilterFactories.Add(PageQueryMetadata.Refuse);
        }
    }

    internal static PageQuery Read(HttpContext context)
    {
        HttpPaginationOptions options = HttpPaginationOptions.Of(context);
        IQueryCollection parameters = context.Request.Query;
        StringValues cursor = parameters[options.CursorParameter], size = parameters[options.SizeParameter];
        if (cursor.Count > 1)
        {
            return new PageQuery(PageProblem.RepeatedCursor(options.CursorParameter));
        }

        if (size.Count > 1)
        {
            return new PageQuery(PageProblem.RepeatedSize(options.SizeParameter));
        }

        return TryReadSize(size.ToString(), out int number)
            ? new PageQuery(new PageRequest(string.IsNullOrEmpty(cursor) ? null : cursor.ToString(), number))
            : new PageQuery(PageProblem.MalformedSize(options.SizeParameter));
    }

    /// <summary>Digits of ASCII alone, whatever the culture. A form sends an empty one where nothing was filled in: the default size.</summary>
    private static bool TryReadSize(ReadOnlySpan<char> text, out int size)
    {
        bool isNegative = text is ['-', ..];
        ReadOnlySpan<char> digits = isNegative ? text[1..] : text;
        long value = 0;
        foreach (char digit in digits)
        {
            if (!char.IsAsciiDigit(digit))
            {
                size = 0;
                return false;
            }

            value = Math.Min((value * 10) + digit - '0', int.MaxValue);
        }

        size = (int)(isNegative ? -value : value);
        return !isNegative || digits.Length > 0;
    }
}
