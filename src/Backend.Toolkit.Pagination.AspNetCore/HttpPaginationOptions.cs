using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>How pages are asked for, and how links to other pages are written.</summary>
public sealed class HttpPaginationOptions
{
    private static readonly HttpPaginationOptions Defaults = new();

    /// <summary>Begins each problem sentence. Not empty; default <c>pages</c>.</summary>
    public string Name { get; set; } = "pages";

    /// <summary>The parameter of the query that holds the cursor. Not empty, other than <see cref="SizeParameter"/>, case does not count; default <c>cursor</c>.</summary>
    public string CursorParameter { get; set; } = "cursor";

    /// <summary>The parameter of the query that holds the page size. Not empty, other than <see cref="CursorParameter"/>, case does not count; default <c>size</c>.</summary>
    public string SizeParameter { get; set; } = "size";

    /// <summary>
    /// The address of the application's root as clients see it, such as <c>https://shop.example/api</c>: <c>Link</c> headers are absolute then, this address with the request's path behind it. Absolute, <c>http</c> or
    /// <c>https</c>, without user, query and fragment. Null: links are relative to the request, only a query. Default null. The <c>Host</c> header, which anybody may write, is never looked at.
    /// </summary>
    public Uri? BaseAddress { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrWhiteSpace(Name))
        {
            yield return Problem(nameof(Name), "not empty", $"'{Name}'");
        }

        if (string.IsNullOrWhiteSpace(CursorParameter))
        {
            yield return Problem(nameof(CursorParameter), "the name of a parameter", $"'{CursorParameter}'");
        }

        if (string.IsNullOrWhiteSpace(SizeParameter))
        {
            yield return Problem(nameof(SizeParameter), "the name of a parameter", $"'{SizeParameter}'");
        }
        else if (string.Equals(SizeParameter, CursorParameter, StringComparison.OrdinalIgnoreCase))
        {
            yield return Problem(nameof(SizeParameter), "another name than CursorParameter", $"'{SizeParameter}' too");
        }

        if (BaseAddress is Uri address && !IsRoot(address))
        {
            yield return Problem(nameof(BaseAddress), "an absolute http or https address without user, query and fragment", address.OriginalString);
        }
    }

    /// <summary>Those in force for a request; the defaults where nothing was added.</summary>
    internal static HttpPaginationOptions Of(HttpContext context) => Of(context.RequestServices);

    internal static HttpPaginationOptions Of(IServiceProvider? services) => services?.GetService<IOptionsMonitor<HttpPaginationOptions>>()?.CurrentValue ?? Defaults;

    private static bool IsRoot(Uri address) => address is { IsAbsoluteUri: true, Scheme: "http" or "https", UserInfo: "", Query: "", Fragment: "" } && address.OriginalString.AsSpan().IndexOfAny('?', '#') < 0;

    private string Problem(string property, string rule, string value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrWhiteSpace(Name) ? GetType().Name : Name)}: {property} must be {rule}, but is {value}.");
}
