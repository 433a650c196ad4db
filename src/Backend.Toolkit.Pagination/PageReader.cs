using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
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
    /// <summary>In characters. A cursor is never longer (<see cref="CursorPaginatorOptions.MaxCursorLength"/>).</summary>
    private const int LongestNext = 65_536;

    private readonly HttpClient _client;
    private readonly JsonTypeInfo<T> _itemType;
    private readonly string _itemsProperty;
    private readonly string _nextProperty;
    private readonly string _cursorParameter;
    private readonly int _maxPages;
    private readonly int _maxPageBytes;

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
        _maxPageBytes = options.MaxPageBytes;
    }

    /// <summary>Reads all items.</summary>
    /// <param name="firstPage">The first page: absolute, or relative to the client's base address.</param>
    /// <param name="resume">A <see cref="PageRead{T}.Next"/> or <see cref="PageReadException.Resume"/> of before; null: from the first page.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <returns>The items of all pages.</returns>
    /// <exception cref="PageReadException">The reading ended before the last page.</exception>
    /// <exception cref="HttpRequestException">A page was not answered, not with success, or not to its end.</exception>
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
    /// <exception cref="HttpRequestException">A page was not answered, not with success, or not to its end.</exception>
    public async IAsyncEnumerable<PageRead<T>> ReadPagesAsync(Uri firstPage, string? resume = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(firstPage);
        Uri first = firstPage.IsAbsoluteUri ? firstPage : _client.BaseAddress is Uri address ? new Uri(address, firstPage)
            : throw new ArgumentException("The first page must be absolute where the client has no base address.", nameof(firstPage));

        var seen = new HashSet<UInt128>();
        (Uri? current, string? token) = (first, resume);
        PageReadException? refusal = null;
        if (resume is not null)
        {
            current = Resolve(first, first, resume, IsLink(resume), out refusal);
        }

        for (int pages = 0; ; pages++)
        {
            if (refusal is not null)
            {
                throw refusal;
            }

            if (current is null)
            {
                yield break;
            }

            if (pages == _maxPages)
            {
                throw new PageReadException(PageReadReason.TooManyPages, $"There are more than {_maxPages} pages.", token);
            }

            if (!seen.Add(Hash(current)))
            {
                throw new PageReadException(PageReadReason.Loop, "A page names a next page that was read before.", token);
            }

            (IReadOnlyList<T> items, string? next, bool isLink, Uri answered) = await ReadPageAsync(first, current, token, cancellationToken).ConfigureAwait(false);
            current = next is null ? null : Resolve(first, answered, next, isLink, out refusal);

            // Absolute, since whoever resumes there has no page that the link was relative to.
            token = isLink && current is not null ? current.AbsoluteUri : next;
            yield return new PageRead<T>(items, token);
        }
    }

    private async Task<(IReadOnlyList<T> Items, string? Next, bool IsLink, Uri Answered)> ReadPageAsync(Uri first, Uri address, string? token, CancellationToken cancellationToken)
    {
        // The client's timeout ends with the headers, unless it reads the body itself.
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(_client.Timeout);
        try
        {
            using HttpResponseMessage response = await _client.GetAsync(address, HttpCompletionOption.ResponseHeadersRead, timeout.Token).ConfigureAwait(false);
            Uri answered = response.RequestMessage?.RequestUri ?? address;
            if (!IsSameOrigin(first, answered))
            {
                throw OtherOrigin(first, answered, token);
            }

            response.EnsureSuccessStatusCode();
            await LoadAsync(response.Content, token, timeout.Token).ConfigureAwait(false);
            string? link = response.Headers.TryGetValues("Link", out IEnumerable<string>? headers)
                ? headers.Select(static header => WebLink.Find(header, "next")).FirstOrDefault(static target => target is not null)
                : null;
            (List<T> items, string? next) = Parse(await response.Content.ReadAsStreamAsync(timeout.Token).ConfigureAwait(false), link, token);
            return (items, string.IsNullOrEmpty(next) ? null : next, link is not null || IsLink(next), answered);
        }
        catch (OperationCanceledException exception) when (timeout.IsCancellationRequested && !cancellationToken.IsCancellationRequested && exception.InnerException is not TimeoutException)
        {
            throw new TaskCanceledException("The page was not read within the client's Timeout.", new TimeoutException(exception.Message, exception), timeout.Token);
        }
    }

    private async Task LoadAsync(HttpContent content, string? token, CancellationToken cancellationToken)
    {
        try
        {
            await content.LoadIntoBufferAsync(_maxPageBytes, cancellationToken).ConfigureAwait(false);
        }
        catch (HttpRequestException exception) when (exception.HttpRequestError == HttpRequestError.ConfigurationLimitExceeded)
        {
            throw new PageReadException(PageReadReason.TooLarge, $"The page is larger than {_maxPageBytes} bytes. Ask for fewer items, or raise MaxPageBytes.", token, exception);
        }
    }

    private (List<T> Items, string? Next) Parse(Stream content, string? link, string? token)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(content);
            return (Items(document.RootElement, token), link ?? Next(document.RootElement, token));
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            // Half a surrogate pair is an invalid operation of its reader.
            throw new PageReadException(PageReadReason.Malformed, "The page is not JSON of the expected shape.", token, exception);
        }
    }

    private List<T> Items(JsonElement root, string? token)
    {
        JsonElement items = root.ValueKind == JsonValueKind.Array ? root
            : root.ValueKind == JsonValueKind.Object && root.TryGetProperty(_itemsProperty, out JsonElement property) && property.ValueKind == JsonValueKind.Array ? property
            : throw new PageReadException(PageReadReason.Malformed, $"The page has no array called '{_itemsProperty}'.", token);
        var list = new List<T>(items.GetArrayLength());
        foreach (JsonElement item in items.EnumerateArray())
        {
            T? value = item.Deserialize(_itemType);
            list.Add(value is not null || typeof(T).IsValueType ? value! : throw new PageReadException(PageReadReason.Malformed, "An item of the page is null.", token));
        }

        return list;
    }

    private string? Next(JsonElement root, string? token) =>
        root.ValueKind != JsonValueKind.Object || !root.TryGetProperty(_nextProperty, out JsonElement next) || next.ValueKind == JsonValueKind.Null ? null
        : next.ValueKind == JsonValueKind.String ? next.GetString()
        : throw new PageReadException(PageReadReason.Malformed, $"The page's '{_nextProperty}' is neither a text nor null.", token);

    /// <summary>A cursor is base64url, so what has one of these in it is a link.</summary>
    private static bool IsLink(string? next) => next.AsSpan().IndexOfAny("/?#:.") >= 0;

    private Uri? Resolve(Uri first, Uri page, string next, bool isLink, out PageReadException? refusal)
    {
        refusal = null;
        Uri? resolved = null;
        if (next.Length > LongestNext)
        {
            refusal = new PageReadException(PageReadReason.Malformed, $"The page's next link has {next.Length} characters, and at most {LongestNext} are followed.", next);
        }
        else if (!isLink)
        {
            resolved = WithCursor(first, next);
        }
        else if (!Uri.TryCreate(page, next, out resolved))
        {
            refusal = new PageReadException(PageReadReason.Malformed, "The page's next link is not a URI.", next);
        }
        else if (!IsSameOrigin(first, resolved))
        {
            refusal = OtherOrigin(first, resolved, next);
        }

        return refusal is null ? resolved : null;
    }

    /// <summary>What a request asks for: an address without its fragment. Kept instead of the address, since a server decides how long that is.</summary>
    private static UInt128 Hash(Uri address) =>
        BinaryPrimitives.ReadUInt128LittleEndian(SHA256.HashData(Encoding.UTF8.GetBytes(address.GetComponents(UriComponents.HttpRequestUrl, UriFormat.UriEscaped))));

    private Uri WithCursor(Uri first, string cursor)
    {
        string name = Uri.EscapeDataString(_cursorParameter);
        IEnumerable<string> others = first.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries)
            .Where(parameter => !string.Equals(Uri.UnescapeDataString(parameter.Split('=')[0]), _cursorParameter, StringComparison.Ordinal));
        return new UriBuilder(first) { Query = string.Join('&', others.Append($"{name}={Uri.EscapeDataString(cursor)}")) }.Uri;
    }

    private static bool IsSameOrigin(Uri first, Uri other) => Uri.Compare(first, other, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) == 0;

    private static PageReadException OtherOrigin(Uri first, Uri other, string? token) =>
        new(PageReadReason.OtherOrigin, $"The next page is at {other.GetLeftPart(UriPartial.Authority)}, and the first one was at {first.GetLeftPart(UriPartial.Authority)}.", token);
}
