using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// Reads all pages of a collection over HTTP, one after the other, as they are asked for: follows the <c>Link</c> header's <c>rel="next"</c>, or else the cursor or link in the page. Never asks
/// another origin than the first page's, since the client's headers (Authorization) go along; never reads a page twice; may be resumed where it was left. For all threads; each enumeration is its own.
/// </summary>
/// <typeparam name="T">An item.</typeparam>
public sealed class PageReader<T>
{
    private readonly HttpClient _client;
    private readonly JsonTypeInfo<T> _itemType;
    private readonly string _itemsProperty;
    private readonly string _nextProperty;
    private readonly string _cursorParameter;
    private readonly int _maxPages;

    /// <summary>A reader.</summary>
    /// <param name="client">Sends the requests. Its handler should not follow redirects: it may do so to another origin before the reader can tell.</param>
    /// <param name="itemType">How an item is read, such as <c>ShopJson.Default.Order</c>.</param>
    /// <param name="options">What pages look like; null: the defaults.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are not valid; one sentence for each problem.</exception>
    public PageReader(HttpClient client, JsonTypeInfo<T> itemType, PageReaderOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(itemType);
        options ??= new PageReaderOptions();
        options.ThrowIfInvalid();
        _client = client;
        _itemType = itemType;
        _itemsProperty = options.ItemsProperty;
        _nextProperty = options.NextProperty;
        _cursorParameter = options.CursorParameter;
        _maxPages = options.MaxPages;
    }

    /// <summary>Reads all items.</summary>
    /// <param name="firstPage">The first page: absolute, or relative to the client's base address.</param>
    /// <param name="resume">A <see cref="PageRead{T}.Next"/> or <see cref="PageReadException.Resume"/> of before; null: from the first page.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <returns>The items of all pages.</returns>
    /// <exception cref="PageReadException">The reading ended before the last page.</exception>
    /// <exception cref="HttpRequestException">A page was not answered, or not with success.</exception>
    public async IAsyncEnumerable<T> ReadAsync(Uri firstPage, string? resume = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (PageRead<T> page in ReadPagesAsync(firstPage, resume, cancellationToken).ConfigureAwait(false))
        {
            foreach (T item in page.Items)
            {
                cancellationToken.ThrowIfCancellationRequested();
                yield return item;
            }
        }
    }

    /// <summary>Reads all pages.</summary>
    /// <param name="firstPage">The first page: absolute, or relative to the client's base address.</param>
    /// <param name="resume">A <see cref="PageRead{T}.Next"/> or <see cref="PageReadException.Resume"/> of before; null: from the first page.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <returns>The pages.</returns>
    /// <exception cref="PageReadException">The reading ended before the last page.</exception>
    /// <exception cref="HttpRequestException">A page was not answered, or not with success.</exception>
    public async IAsyncEnumerable<PageRead<T>> ReadPagesAsync(Uri firstPage, string? resume = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(firstPage);
        Uri first = firstPage.IsAbsoluteUri ? firstPage : _client.BaseAddress is Uri address ? new Uri(address, firstPage)
            : throw new ArgumentException("The first page must be absolute where the client has no base address.", nameof(firstPage));

        var seen = new HashSet<string>(StringComparer.Ordinal);
        Uri current = first;
        string? token = resume;
        if (token is not null)
        {
            current = Resolve(first, first, token);
        }

        for (int pages = 0; ; pages++)
        {
            if (pages == _maxPages)
            {
                throw new PageReadException(PageReadReason.TooManyPages, $"There are more than {_maxPages} pages.", token);
            }

            if (!seen.Add(current.AbsoluteUri))
            {
                throw new PageReadException(PageReadReason.Loop, "A page names a next page that was read before.", token);
            }

            (PageRead<T> page, Uri answered) = await ReadPageAsync(first, current, token, cancellationToken).ConfigureAwait(false);
            Uri? next = page.Next is null ? null : Resolve(first, answered, page.Next);
            yield return page;
            if (next is null)
            {
                yield break;
            }

            (current, token) = (next, page.Next);
        }
    }

    private async Task<(PageRead<T> Page, Uri Answered)> ReadPageAsync(Uri first, Uri address, string? token, CancellationToken cancellationToken)
    {
        using HttpResponseMessage response = await _client.GetAsync(address, HttpCompletionOption.ResponseHeadersRead, cancellationToken).ConfigureAwait(false);
        Uri answered = response.RequestMessage?.RequestUri ?? address;
        Demand(first, answered, token);
        response.EnsureSuccessStatusCode();
        string? link = response.Headers.TryGetValues("Link", out IEnumerable<string>? headers)
            ? headers.Select(static header => WebLink.Find(header, "next")).FirstOrDefault(static target => target is not null)
            : null;

        try
        {
            await using Stream content = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            using JsonDocument document = await JsonDocument.ParseAsync(content, cancellationToken: cancellationToken).ConfigureAwait(false);
            JsonElement root = document.RootElement;
            JsonElement items = root.ValueKind == JsonValueKind.Array ? root
                : root.ValueKind == JsonValueKind.Object && root.TryGetProperty(_itemsProperty, out JsonElement property) && property.ValueKind == JsonValueKind.Array ? property
                : throw new PageReadException(PageReadReason.Malformed, $"The page has no array called '{_itemsProperty}'.", token);
            if (link is null && root.ValueKind == JsonValueKind.Object && root.TryGetProperty(_nextProperty, out JsonElement next) && next.ValueKind != JsonValueKind.Null)
            {
                link = next.ValueKind == JsonValueKind.String ? next.GetString()
                    : throw new PageReadException(PageReadReason.Malformed, $"The page's '{_nextProperty}' is neither a text nor null.", token);
            }

            var list = new List<T>(items.GetArrayLength());
            foreach (JsonElement item in items.EnumerateArray())
            {
                list.Add(item.Deserialize(_itemType)!);
            }

            return (new PageRead<T>(list, string.IsNullOrEmpty(link) ? null : link), answered);
        }
        catch (JsonException exception)
        {
            throw new PageReadException(PageReadReason.Malformed, "The page is not JSON of the expected shape.", token, exception);
        }
    }

    /// <summary>A cursor is base64url, so what has another character first or a colon in it is a link.</summary>
    private Uri Resolve(Uri first, Uri page, string next)
    {
        bool isLink = next.AsSpan().IndexOfAny("/?#:.") >= 0;
        Uri? resolved;
        if (!isLink)
        {
            resolved = WithCursor(first, next);
        }
        else if (!Uri.TryCreate(page, next, out resolved))
        {
            throw new PageReadException(PageReadReason.Malformed, "The page's next link is not a URI.", next);
        }

        Demand(first, resolved, next);
        return resolved;
    }

    private Uri WithCursor(Uri first, string cursor)
    {
        string name = Uri.EscapeDataString(_cursorParameter);
        IEnumerable<string> others = first.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries)
            .Where(parameter => !string.Equals(Uri.UnescapeDataString(parameter.Split('=')[0]), _cursorParameter, StringComparison.Ordinal));
        return new UriBuilder(first) { Query = string.Join('&', others.Append($"{name}={Uri.EscapeDataString(cursor)}")) }.Uri;
    }

    private static void Demand(Uri first, Uri other, string? token)
    {
        if (Uri.Compare(first, other, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) != 0)
        {
            throw new PageReadException(PageReadReason.OtherOrigin, $"The next page is at {other.GetLeftPart(UriPartial.Authority)}, and the first one was at {first.GetLeftPart(UriPartial.Authority)}.", token);
        }
    }
}
