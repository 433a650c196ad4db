using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

public sealed class PageResultTests
{
    private static readonly Page<Order> Middle = new([new Order(1, "new")], "n", "p");

    [Theory]
    [InlineData(null)]
    [InlineData("snake")]
    [InlineData("without nulls")]
    [InlineData("source-generated")]
    public async Task The_envelope_is_the_same_under_all_options_of_JSON(string? options)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/last", () => new Page<Order>([], null, null).ToResult());
                app.MapGet("/middle", () => Middle.WithTotal(new PageTotal(0, false)).ToResult());
            },
            services => services.ConfigureHttpJsonOptions(o =>
            {
                switch (options)
                {
                    case "snake":
                        o.SerializerOptions.PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseUpper;
                        break;
                    case "without nulls":
                        o.SerializerOptions.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault;
                        break;
                    case "source-generated":
                        o.SerializerOptions.TypeInfoResolverChain.Clear();
                        o.SerializerOptions.TypeInfoResolverChain.Add(OrderJson.Default);
                        break;
                }
            }));

        Answer last = await server.GetAsync("/last");
        Answer middle = await server.GetAsync("/middle");

        last.Body.Should().Be("""{"items":[],"next":null,"previous":null}""");
        last.ContentType.Should().Be("application/json; charset=utf-8");
        string item = options == "snake" ? """{"ID":1,"STATUS":"new"}""" : """{"id":1,"status":"new"}""";
        middle.Body.Should().Be($$$"""{"items":[{{{item}}}],"next":"n","previous":"p","total":{"count":0,"isCapped":false}}""");
    }

    [Fact]
    public async Task A_type_that_source_generated_JSON_lacks_is_an_error_that_names_it()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/others", () => new Page<Uri>([], "n", null).ToResult()),
            services => services.ConfigureHttpJsonOptions(o =>
            {
                o.SerializerOptions.TypeInfoResolverChain.Clear();
                o.SerializerOptions.TypeInfoResolverChain.Add(OrderJson.Default);
            }));

        Answer answer = await server.GetAsync("/others");

        answer.Status.Should().Be(HttpStatusCode.InternalServerError);
        answer.Link.Should().BeNull();
        server.Errors.Should().ContainSingle().Which.Should().Contain("Page`1[System.Uri]");
    }

    [Fact]
    public async Task A_page_is_one_of_several_results()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/either", Results<PageResult<Order>, NotFound> (bool found) => found ? Middle.ToResult() : TypedResults.NotFound()));

        Answer found = await server.GetAsync("/either?found=true");
        Answer missing = await server.GetAsync("/either?found=false");

        found.Link.Should().Be("<?cursor=n&found=true>; rel=\"next\", <?cursor=p&found=true>; rel=\"prev\"");
        missing.Status.Should().Be(HttpStatusCode.NotFound);
    }

    [Fact]
    public void A_result_tells_what_it_holds()
    {
        PageResult<Order> result = Middle.ToResult();

        result.Page.Should().BeSameAs(Middle);
        ((IValueHttpResult)result).Value.Should().BeSameAs(Middle);
        ((IValueHttpResult<Page<Order>>)result).Value.Should().BeSameAs(Middle);
        ((IStatusCodeHttpResult)result).StatusCode.Should().Be(200);
        ((IContentTypeHttpResult)result).ContentType.Should().Be("application/json; charset=utf-8");
    }

    [Fact]
    public async Task A_page_alone_has_no_links()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/bare", () => Middle));

        Answer answer = await server.GetAsync("/bare");

        answer.Link.Should().BeNull();
        answer.Next.Should().Be("n");
    }
}
