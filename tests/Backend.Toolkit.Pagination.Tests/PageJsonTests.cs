using System.Text.Json;
using System.Text.Json.Serialization;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class PageJsonTests
{
    [Fact]
    public void A_page_has_the_same_names_under_any_options_of_JSON()
    {
        var options = new JsonSerializerOptions { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseUpper, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault };

        JsonSerializer.Serialize(new Page<int>([1], null, null), options).Should().Be("""{"items":[1],"next":null,"previous":null}""");
        JsonSerializer.Serialize(new Page<int>([], "n", "p", new PageTotal(0, false)), options).Should().Be("""{"items":[],"next":"n","previous":"p","total":{"count":0,"isCapped":false}}""");
    }

    [Fact]
    public void A_page_is_read_back_as_it_was_written()
    {
        Page<int>? page = JsonSerializer.Deserialize<Page<int>>(JsonSerializer.Serialize(new Page<int>([1, 2], "n", null, new PageTotal(1_000, true))));

        page.Should().BeEquivalentTo(new Page<int>([1, 2], "n", null, new PageTotal(1_000, true)));
    }
}
