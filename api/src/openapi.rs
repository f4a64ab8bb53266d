//! What the API is, for programs: a document of `OpenAPI`, made of one table of all routes. A test compares the table
//! with what the router answers.

use axum::Json;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Paths, PathsBuilder,
    Required, ResponseBuilder, Type,
    path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem},
    request_body::RequestBodyBuilder,
    schema::{KnownFormat, SchemaFormat},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use crate::token::Scope;

const BEARER: &str = "token";

/// One route.
struct Route {
    method: HttpMethod,
    path: &'static str,
    what: &'static str,
    /// None: no token is needed.
    scope: Option<Scope>,
    query: &'static [&'static str],
    /// Content types of the body.
    body: &'static [&'static str],
    status: &'static str,
}

const ANY: &str = "*/*";
const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data";
const TOML: &str = "application/toml";
const CAR: &str = "application/car";
const CHUNK: &str = "application/offset+octet-stream";

macro_rules! route {
    ($method:ident $path:literal, $scope:expr, [$($query:literal),*], [$($body:expr),*], $status:literal, $what:literal) => {
        Route {
            method: HttpMethod::$method,
            path: $path,
            what: $what,
            scope: $scope,
            query: &[$($query),*],
            body: &[$($body),*],
            status: $status,
        }
    };
}

const READ: Option<Scope> = Some(Scope::Read);
const WRITE: Option<Scope> = Some(Scope::Write);
const ADMIN: Option<Scope> = Some(Scope::Admin);

const ROUTES: &[Route] = &[
    route!(Get "/files", READ, ["limit", "cursor", "name"], [], "200", "Lists files and folders, the newest first"),
    route!(Post "/files", WRITE, [], [ANY, FORM], "201", "Stores the body as a file, or a form as a folder"),
    route!(Put "/files/{id}", WRITE, [], [ANY], "201", "Stores the body as a file of this name"),
    route!(Get "/files/{id}", READ, [], [], "200", "Shows a file or folder"),
    route!(Patch "/files/{id}", WRITE, [], [JSON], "200", "Changes how long, under which policy and how redundantly it is kept"),
    route!(Delete "/files/{id}", WRITE, [], [], "200", "Erases it"),
    route!(Get "/files/{id}/health", READ, [], [], "200", "Shows where its shards are and how many may be lost"),
    route!(Post "/files/{id}/purge", WRITE, [], [], "202", "Has edges drop what they hold of it"),
    route!(Get "/names", READ, [], [], "200", "Lists stable names with what they stood for"),
    route!(Put "/names/{name}", WRITE, [], [JSON], "200", "Makes, moves or renews a stable name"),
    route!(Delete "/names/{name}", ADMIN, [], [], "200", "Ends a stable name"),
    route!(Get "/policies", READ, [], [], "200", "Lists policies"),
    route!(Post "/policies/check", WRITE, [], [TOML], "200", "Says what edges would refuse of a policy"),
    route!(Put "/policies/{name}", ADMIN, ["expires"], [TOML], "200", "Publishes a version of a policy"),
    route!(Get "/policies/{name}/source", READ, [], [], "200", "Shows the text of a policy that was published here"),
    route!(Get "/network", READ, [], [], "200", "Lists nodes, and what is being repaired"),
    route!(Get "/tokens", ADMIN, [], [], "200", "Lists tokens, without their secrets"),
    route!(Post "/tokens", ADMIN, [], [JSON], "201", "Makes a token and shows it, once"),
    route!(Delete "/tokens/{name}", ADMIN, [], [], "200", "Ends a token, by its name or id"),
    route!(Get "/console/session", READ, [], [], "200", "Console: tells who is signed in"),
    route!(Post "/console/session", None, [], [JSON], "200", "Console: signs a browser in by a one-time key or a token"),
    route!(Delete "/console/session", READ, [], [], "204", "Console: signs a browser out"),
    route!(Get "/audit", ADMIN, ["limit", "before"], [], "200", "Lists who changed what, the newest first"),
    route!(Get "/version", None, [], [], "200", "Tells the version"),
    route!(Get "/openapi.json", None, [], [], "200", "This document"),
    route!(Post "/upload", WRITE, [], [ANY, FORM, CAR], "200", "nft.storage: stores a file, a form or a CAR"),
    route!(Post "/store", WRITE, [], [FORM], "200", "nft.storage: stores an NFT's metadata with its files"),
    route!(Patch "/upload/{cid}", WRITE, [], [JSON], "200", "nft.storage: renames a record"),
    route!(Get "/", READ, ["before", "limit"], [], "200", "nft.storage: lists records, the newest first"),
    route!(Get "/{cid}", READ, [], [], "200", "nft.storage: shows a record"),
    route!(Delete "/{cid}", WRITE, [], [], "202", "nft.storage: erases all uploads of a CID"),
    route!(Get "/check/{cid}", None, [], [], "200", "nft.storage: tells whether a CID is stored"),
    route!(Get "/pins", READ, ["cid", "name", "match", "status", "before", "after", "limit", "meta"], [], "200", "Pinning: lists pins"),
    route!(Post "/pins", WRITE, [], [JSON], "202", "Pinning: adds a pin"),
    route!(Get "/pins/{requestid}", READ, [], [], "200", "Pinning: shows a pin"),
    route!(Post "/pins/{requestid}", WRITE, [], [JSON], "202", "Pinning: replaces a pin"),
    route!(Delete "/pins/{requestid}", WRITE, [], [], "202", "Pinning: removes a pin"),
    route!(Post "/tus", WRITE, [], [CHUNK], "201", "tus: begins an upload"),
    route!(Get "/tus/{id}", WRITE, [], [], "200", "tus: tells how far an upload is; HEAD too"),
    route!(Patch "/tus/{id}", WRITE, [], [CHUNK], "204", "tus: brings a chunk"),
    route!(Delete "/tus/{id}", WRITE, [], [], "204", "tus: gives an upload up"),
    route!(Get "/tus/{id}/file", READ, [], [], "200", "Shows what an upload became"),
];

/// `GET /openapi.json`.
pub(crate) async fn serve() -> Json<OpenApi> {
    Json(document())
}

fn document() -> OpenApi {
    let about = InfoBuilder::new().title("Evernear twin").version(env!("CARGO_PKG_VERSION"));
    let about = about.description(Some("Stores, lists, renews and erases for one owner. docs/api.md explains it."));
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let components = ComponentsBuilder::new().security_scheme(BEARER, scheme).build();
    let paths = ROUTES.iter().fold(PathsBuilder::new(), |paths, route| {
        paths.path(route.path, PathItem::new(route.method.clone(), route.operation()))
    });
    let paths: Paths = paths.build();
    OpenApiBuilder::new().info(about.build()).components(Some(components)).paths(paths).build()
}

impl Route {
    fn operation(&self) -> OperationBuilder {
        let text = || Some(ObjectBuilder::new().schema_type(Type::String));
        let in_path = self.path.split(['{', '}']).skip(1).step_by(2);
        let parameter = |name: &str, place: ParameterIn, required: Required| {
            ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(text()).build()
        };
        let mut operation = OperationBuilder::new().summary(Some(self.what));
        for name in in_path {
            operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True));
        }
        for name in self.query {
            operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False));
        }
        if self.path.starts_with("/tus") && !self.path.ends_with("/file") {
            operation = operation.parameter(parameter("tus-resumable", ParameterIn::Header, Required::True));
        }
        if !self.body.is_empty() {
            let body = self.body.iter().fold(RequestBodyBuilder::new(), |body, kind| {
                let binary = Some(SchemaFormat::KnownFormat(KnownFormat::Binary));
                let schema = match *kind {
                    JSON | FORM => ObjectBuilder::new().schema_type(Type::Object),
                    _ => ObjectBuilder::new().schema_type(Type::String).format(binary),
                };
                body.content(*kind, ContentBuilder::new().schema(Some(schema)).build())
            });
            operation = operation.request_body(Some(body.build()));
        }
        operation = operation.response(self.status, ResponseBuilder::new().description("Done").build());
        let refused = "Refused: {ok: false, error: {code, message}}";
        operation = operation.response("default", ResponseBuilder::new().description(refused).build());
        match self.scope {
            Some(scope) => operation
                .description(Some(format!("Needs a token of scope {scope}.")))
                .security(SecurityRequirement::new(BEARER, [""; 0])),
            None => operation.securities(Some([])),
        }
    }
}
